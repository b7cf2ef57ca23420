"""How to reach one node: address, TLS certificate, macaroon; judged before anything is sent.

lnd makes its own certificate, valid for 14 months, and trusts nobody else's; so the file beside the node is the only
proof that the right one answers. The macaroon says what the bearer may do: whoever reads it can use it, so it is never
printed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from ledgers.lightning.client.errors import LndCertificateRefused, LndDenied


@dataclass(frozen=True, slots=True)
class NodeAccess:
    """Address "host:port" of a node, its certificate (PEM) and a macaroon in hexadecimal.

    `name` is ours, for messages. `network` is the one the node must be on; any other is refused.
    """

    name: str
    address: str
    certificate_pem: bytes = field(repr=False)
    macaroon_hex: str = field(repr=False)
    network: str = "regtest"

    @classmethod
    def from_files(
        cls, name: str, address: str, *, certificate: Path, macaroon: Path, network: str = "regtest"
    ) -> NodeAccess:
        """Read `tls.cert` and a binary macaroon file.

        Raises LndCertificateRefused or LndDenied, naming the file, when one cannot be read.
        """
        try:
            pem = certificate.read_bytes()
        except OSError as error:
            raise LndCertificateRefused(
                f"node {name!r}: its certificate {certificate} cannot be read: {error.strerror}",
                node=name,
                call="open",
            ) from error
        try:
            token = macaroon.read_bytes().hex()
        except OSError as error:
            raise LndDenied(
                f"node {name!r}: the macaroon {macaroon} cannot be read: {error.strerror}", node=name, call="open"
            ) from error
        return cls(name, address, pem, token, network)

    def with_macaroon(self, macaroon_hex: str) -> NodeAccess:
        """The same node with another macaroon."""
        return NodeAccess(self.name, self.address, self.certificate_pem, macaroon_hex, self.network)

    def check(self, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        """Raise LndCertificateRefused or LndDenied for a certificate or macaroon that cannot work."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_pem)
        except ValueError as error:
            raise LndCertificateRefused(
                f"node {self.name!r}: its certificate is not PEM: {error}", node=self.name, call="open"
            ) from error
        if certificate.not_valid_after_utc <= now():
            raise LndCertificateRefused(
                f"node {self.name!r}: its TLS certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}; "
                "delete tls.cert and tls.key beside the node and start it again",
                node=self.name,
                call="open",
            )
        try:
            token = bytes.fromhex(self.macaroon_hex)
        except ValueError:
            token = b""
        if not token:
            raise LndDenied(
                f"node {self.name!r}: the macaroon is empty or not hexadecimal; bake one for this node",
                node=self.name,
                call="open",
            )
