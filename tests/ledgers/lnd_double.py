"""A small Lightning network that speaks lnd's proto on real sockets: TLS and macaroons are real, channels are sums.

For what real nodes cannot be made to do quickly or at all: a locked wallet, another version, another network, an answer
that is lost after the money moved, a node that is away for a moment. Every spoke has one channel to one hub, which
takes a fee. Words and codes are those of lnd v0.21.2-beta.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.x509.oid import NameOID

from ledgers.lightning.client import NodeAccess
from ledgers.lightning.client.wire import wire

LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
OPEN, SETTLED, CANCELED, ACCEPTED = 0, 1, 2, 3
IN_FLIGHT, SUCCEEDED, FAILED = 1, 2, 3


@dataclass
class StoredInvoice:
    node: Node
    payment_hash: bytes
    amount_msat: int
    description_hash: bytes
    text: str
    created: int
    expiry: int
    preimage: bytes
    hold: bool
    state: int = OPEN
    keysend: bool = False


@dataclass
class StoredPayment:
    payment_hash: bytes
    amount_msat: int
    fee_msat: int
    status: int = IN_FLIGHT
    preimage: bytes = b""
    reason: int = 0
    attempted: bool = False  # an HTLC left the payer's node
    lost_msat: int = 0  # of several parts one came back, this much of it for the payee
    failure: int = 8  # lnrpc.Failure.FailureCode of the part that failed: INVALID_ONION_VERSION
    at_hop: int = 1  # the node that said so; 0 is the payer
    vanished: bool = False  # killed between registering and signing: in flight for ever, in no channel


class Network:
    """The hub and its spokes; `with` stops every server. Amounts in msat."""

    def __init__(self, *, base_fee_msat: int = 0, fee_ppm: int = 0) -> None:
        self.base_fee_msat = base_fee_msat
        self.fee_ppm = fee_ppm
        self.hub_msat = 0
        self.changed = threading.Condition(threading.RLock())
        self.nodes: dict[str, Node] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes.values():
            node.stop()

    def add(self, name: str, *, local_msat: int, remote_msat: int, **options: Any) -> Node:
        self.nodes[name] = Node(self, name, local_msat, remote_msat, **options)
        return self.nodes[name]

    def fee_msat(self, amount_msat: int) -> int:
        return self.base_fee_msat + amount_msat * self.fee_ppm // 1_000_000

    def total_msat(self) -> int:
        """All money of the spokes, what is under way, and the hub's fees: always the same."""
        with self.changed:
            under_way = sum(
                payment.amount_msat + payment.fee_msat
                for node in self.nodes.values()
                for payment in node.payments.values()
                if payment.status == IN_FLIGHT and not payment.vanished
            )
            return self.hub_msat + under_way + sum(node.local_msat for node in self.nodes.values())

    def find(self, payment_hash: bytes) -> StoredInvoice | None:
        for node in self.nodes.values():
            if payment_hash in node.invoices:
                return node.invoices[payment_hash]
        return None

    # Money, under the lock.

    def send(self, payer: Node, invoice: StoredInvoice, amount_msat: int) -> StoredPayment:
        fee = self.fee_msat(amount_msat)
        payment = StoredPayment(invoice.payment_hash, amount_msat, fee)
        payer.payments[invoice.payment_hash] = payment
        if payer.vanish > 0:
            payer.vanish -= 1
            payment.vanished = True
        elif payer.local_msat < amount_msat + fee:
            payment.status, payment.reason = FAILED, 5
        elif payer.no_route or invoice.node.remote_msat < amount_msat:
            payment.status, payment.reason = FAILED, 2
        elif invoice.state != OPEN or invoice.amount_msat != amount_msat:
            payment.status, payment.reason = FAILED, 4
            payment.attempted, payment.failure, payment.at_hop = True, 1, 2  # the payee says: unknown details
        else:
            payment.attempted = True
            payer.local_msat -= amount_msat + fee
            payer.remote_msat += amount_msat + fee
            if invoice.hold:
                invoice.state = ACCEPTED
            else:
                self.settle(invoice)
        self.changed.notify_all()
        return payment

    def settle(self, invoice: StoredInvoice) -> None:
        if invoice.node.lose_settled > 0:
            invoice.node.lose_settled -= 1
            self.lose(invoice)
        invoice.state = SETTLED
        if not self.under_way(invoice):
            return
        invoice.node.local_msat += invoice.amount_msat
        invoice.node.remote_msat -= invoice.amount_msat
        for node in self.nodes.values():
            payment = node.payments.get(invoice.payment_hash)
            if payment is not None and payment.status == IN_FLIGHT:
                payment.status, payment.preimage = SUCCEEDED, invoice.preimage
                self.hub_msat += payment.fee_msat
        self.changed.notify_all()

    def expire(self, invoice: StoredInvoice) -> None:
        """What lnd does with a hold that comes near its last block."""
        with self.changed:
            self.cancel(invoice)

    def close_payers_channel(self, invoice: StoredInvoice) -> None:
        """His channel is closed by force; the money comes back over the chain, while the hub still owes the payee."""
        with self.changed:
            for node in self.nodes.values():
                payment = node.payments.get(invoice.payment_hash)
                if payment is not None and payment.status == IN_FLIGHT:
                    payment.failure, payment.at_hop = 21, 0  # PERMANENT_CHANNEL_FAILURE
            self._give_back(invoice, reason=2)

    def lose_part(self, invoice: StoredInvoice, msat: int) -> None:
        """Of a payment in parts, one comes back to the payer; the invoice stays accepted."""
        with self.changed:
            for node in self.nodes.values():
                payment = node.payments.get(invoice.payment_hash)
                if payment is not None and payment.status == IN_FLIGHT:
                    payment.lost_msat = msat
            self.changed.notify_all()

    def lose(self, invoice: StoredInvoice) -> None:
        """What an lnd does that was killed before it marked an HTLC as handled: money goes back, the invoice stays."""
        with self.changed:
            self._give_back(invoice, reason=2)

    def under_way(self, invoice: StoredInvoice) -> bool:
        payments = [node.payments.get(invoice.payment_hash) for node in self.nodes.values()]
        return any(payment is not None and payment.status == IN_FLIGHT for payment in payments)

    def cancel(self, invoice: StoredInvoice) -> None:
        invoice.state = CANCELED
        self._give_back(invoice, reason=4)

    def _give_back(self, invoice: StoredInvoice, *, reason: int) -> None:
        for node in self.nodes.values():
            payment = node.payments.get(invoice.payment_hash)
            if payment is not None and payment.status == IN_FLIGHT and not payment.vanished:
                payment.status, payment.reason = FAILED, reason
                node.local_msat += payment.amount_msat + payment.fee_msat
                node.remote_msat -= payment.amount_msat + payment.fee_msat
        self.changed.notify_all()


class Node:
    """One node and its server. The public attributes are the faults: change them while it runs."""

    def __init__(
        self,
        network: Network,
        name: str,
        local_msat: int,
        remote_msat: int,
        *,
        version: str = "0.21.2-beta commit=v0.21.2-beta",
        chain: str = "regtest",
        valid_for: dt.timedelta = dt.timedelta(days=1),
    ) -> None:
        self.network = network
        self.name = name
        self.local_msat = local_msat
        self.remote_msat = remote_msat
        self.version = version
        self.chain = chain
        self.refusal: tuple[str, str] | None = None  # code and words that every call gets
        self.no_route = False
        self.lose_settled = 0  # so many payments to it are refused after its invoice was settled (killed, restarted)
        self.vanish = 0  # so many payments are registered and never leave
        self.silent_tracks = 0  # so many questions for a payment are not answered
        self.lose_answers = 0  # so many SendPaymentV2 pay and then break their stream
        self.invoice_change: dict[str, Any] = {}  # what invoices say instead of what was asked
        self.forgot = 0  # calls of ResetMissionControl
        self.sent = 0  # calls of SendPaymentV2 that reached the node
        self.invoices: dict[bytes, StoredInvoice] = {}
        self.payments: dict[bytes, StoredPayment] = {}
        self.key = ec.generate_private_key(ec.SECP256K1())
        self.macaroon = os.urandom(40)
        self.certificate, self._tls_key = self_signed(valid_for)
        self.port = 0
        self._server: Any = None
        self.start()

    @property
    def public_key(self) -> str:
        return (
            self.key.public_key()
            .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
            .hex()
        )

    def access(self, **changes: Any) -> NodeAccess:
        known: dict[str, Any] = {
            "name": self.name,
            "address": f"127.0.0.1:{self.port}",
            "certificate_pem": self.certificate,
            "macaroon_hex": self.macaroon.hex(),
        }
        return NodeAccess(**{**known, **changes})

    def start(self) -> None:
        w = wire()
        server = w.grpc.server(ThreadPoolExecutor(32))
        w.ln_rpc.add_LightningServicer_to_server(Lightning(self), server)
        w.router_rpc.add_RouterServicer_to_server(Router(self), server)
        w.invoices_rpc.add_InvoicesServicer_to_server(Invoices(self), server)
        credentials = w.grpc.ssl_server_credentials([(self._tls_key, self.certificate)])
        self.port = server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        """The node is away; money under way stays under way."""
        if self._server is not None:
            self._server.stop(None).wait(5)
            self._server = None

    def admit(self, context: Any) -> None:
        grpc = wire().grpc
        if self.refusal is not None:
            context.abort(grpc.StatusCode[self.refusal[0]], self.refusal[1])
        given = [value for name, value in context.invocation_metadata() if name == "macaroon"]
        if given != [self.macaroon.hex()]:
            words = "verification failed: signature mismatch after caveat verification"
            context.abort(grpc.StatusCode.UNKNOWN, words)

    def add_invoice(self, amount_msat: int, payment_hash: bytes, preimage: bytes, request: Any, *, hold: bool) -> str:
        said = {"amount_msat": amount_msat, "description_hash": request.description_hash, **self.invoice_change}
        created = int(time.time())
        text = write_invoice(
            self.key, chain="bcrt", payment_hash=payment_hash, created=created, expiry=request.expiry, **said
        )
        self.invoices[payment_hash] = StoredInvoice(
            self, payment_hash, amount_msat, request.description_hash, text, created, request.expiry, preimage, hold
        )
        return text

    def invoice_message(self, stored: StoredInvoice) -> Any:
        return wire().ln.Invoice(
            r_hash=stored.payment_hash,
            r_preimage=stored.preimage if stored.state == SETTLED or not stored.hold else b"",
            payment_request=stored.text,
            value_msat=stored.amount_msat,
            description_hash=stored.description_hash,
            state=stored.state,
            amt_paid_msat=stored.amount_msat if stored.state in {SETTLED, ACCEPTED} else 0,
            creation_date=stored.created,
            expiry=stored.expiry,
        )

    def payment_message(self, stored: StoredPayment) -> Any:
        ln = wire().ln
        return ln.Payment(
            htlcs=self._parts(stored),
            payment_hash=stored.payment_hash.hex(),
            payment_preimage=stored.preimage.hex() or "00" * 32,
            value_msat=stored.amount_msat,
            fee_msat=stored.fee_msat if stored.status != FAILED else 0,
            status=stored.status,
            failure_reason=stored.reason,
        )

    def _parts(self, stored: StoredPayment) -> list[Any]:
        ln = wire().ln
        if stored.vanished or not stored.attempted:
            return []
        amount_msat = stored.amount_msat - stored.lost_msat
        route = ln.Route(
            total_amt_msat=amount_msat + stored.fee_msat,
            total_fees_msat=stored.fee_msat,
            total_time_lock=600,
            hops=[
                ln.Hop(chan_id=1 if stored.at_hop else 9, amt_to_forward_msat=amount_msat, fee_msat=stored.fee_msat),
                ln.Hop(chan_id=2, amt_to_forward_msat=amount_msat),
            ],
        )
        if stored.status != FAILED:
            return [ln.HTLCAttempt(status=int(stored.status == SUCCEEDED), route=route)]
        failure = ln.Failure(code=stored.failure, failure_source_index=stored.at_hop)
        return [ln.HTLCAttempt(status=2, route=route, failure=failure)]


@dataclass
class _Service:
    node: Node
    network: Network = field(init=False)

    def __post_init__(self) -> None:
        self.network = self.node.network

    def __getattr__(self, name: str) -> Any:
        """Every other call of lnd, as a server that does not know it answers."""

        def unknown(request: Any, context: Any) -> None:
            context.abort(wire().grpc.StatusCode.UNIMPLEMENTED, f"unknown method {name}")

        return unknown


class Lightning(_Service):
    def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802  # lnd's names
        self.node.admit(context)
        ln = wire().ln
        return ln.GetInfoResponse(
            alias=self.node.name,
            identity_pubkey=self.node.public_key,
            version=self.node.version,
            chains=[ln.Chain(chain="bitcoin", network=self.node.chain)],
            synced_to_chain=True,
            synced_to_graph=True,
            num_active_channels=1,
        )

    def ChannelBalance(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        ln = wire().ln
        with self.network.changed:
            under_way = [p for p in self.node.payments.values() if p.status == IN_FLIGHT and not p.vanished]
            going = sum(payment.amount_msat + payment.fee_msat for payment in under_way)
            coming = sum(i.amount_msat for i in self.node.invoices.values() if i.state == ACCEPTED)
            return ln.ChannelBalanceResponse(
                local_balance=ln.Amount(msat=self.node.local_msat),
                remote_balance=ln.Amount(msat=self.node.remote_msat),
                unsettled_local_balance=ln.Amount(msat=coming),
                unsettled_remote_balance=ln.Amount(msat=going),
            )

    def ListChannels(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        ln = wire().ln
        local, remote = self.node.local_msat // 1000, self.node.remote_msat // 1000
        under_way = [p for p in self.node.payments.values() if p.status == IN_FLIGHT and not p.vanished]
        channel = ln.Channel(
            active=True,
            capacity=local + remote,
            local_balance=local,
            remote_balance=remote,
            chan_id=1,
            pending_htlcs=[ln.HTLC(hash_lock=payment.payment_hash) for payment in under_way],
        )
        return ln.ListChannelsResponse(channels=[channel])

    def PendingChannels(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        return wire().ln.PendingChannelsResponse()

    def DecodePayReq(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        if not request.pay_req.startswith("lnbcrt"):
            words = "invoice not for current active network 'regtest'"
            context.abort(wire().grpc.StatusCode.UNKNOWN, words)
        from ledgers.lightning.bolt11 import read_invoice_text

        text = read_invoice_text(request.pay_req)
        owner = next(
            (node.public_key for node in self.network.nodes.values() if text.signed_by(node.public_key)),
            "02" + "0" * 64,
        )
        return wire().ln.PayReq(
            destination=owner,
            payment_hash=text.payment_hash,
            num_msat=text.amount_msat,
            description_hash=text.description_hash,
            timestamp=text.created_unix_s,
            expiry=text.expiry_s,
        )

    def AddInvoice(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        payment_hash = hashlib.sha256(request.r_preimage).digest()
        with self.network.changed:
            if payment_hash in self.node.invoices:
                context.abort(wire().grpc.StatusCode.UNKNOWN, "invoice with payment hash already exists")
            text = self.node.add_invoice(request.value_msat, payment_hash, request.r_preimage, request, hold=False)
        return wire().ln.AddInvoiceResponse(r_hash=payment_hash, payment_request=text)

    def QueryRoutes(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        if self.node.no_route:
            context.abort(wire().grpc.StatusCode.UNKNOWN, "unable to find a path to destination")
        ln = wire().ln
        fee = self.network.fee_msat(request.amt_msat)
        route = ln.Route(total_fees_msat=fee, total_amt_msat=request.amt_msat + fee, hops=[ln.Hop(), ln.Hop()])
        return ln.QueryRoutesResponse(routes=[route])


class Router(_Service):
    def SendPaymentV2(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.node.admit(context)
        grpc = wire().grpc
        with self.network.changed:
            self.node.sent += 1
            if request.payment_request:
                invoice = next(i for n in self.network.nodes.values() for i in n.invoices.values()
                               if i.text == request.payment_request)  # fmt: skip
                amount = invoice.amount_msat
            else:
                amount = request.amt_msat
                owner = next(n for n in self.network.nodes.values() if n.public_key == request.dest.hex())
                preimage = request.dest_custom_records[5482373484]
                fresh = StoredInvoice(
                    owner,
                    request.payment_hash,
                    amount,
                    b"",
                    "",
                    int(time.time()),
                    60,
                    preimage,
                    False,
                    keysend=True,
                )
                invoice = owner.invoices.get(request.payment_hash, fresh)
                if not self.node.vanish:  # what never leaves, the payee does not hear of
                    owner.invoices[request.payment_hash] = invoice
            known = self.node.payments.get(invoice.payment_hash)
            if known is not None and known.status != FAILED:
                words = "invoice is already paid" if known.status == SUCCEEDED else "payment is in transition"
                context.abort(grpc.StatusCode.ALREADY_EXISTS, words)
            payment = self.network.send(self.node, invoice, amount)
            lost = self.node.lose_answers > 0
            self.node.lose_answers -= int(lost)
        if lost:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        yield from self._updates(payment, context)

    def TrackPaymentV2(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.node.admit(context)
        if self.node.silent_tracks > 0:
            self.node.silent_tracks -= 1
            context.abort(wire().grpc.StatusCode.UNAVAILABLE, "Socket closed")
        payment = self.node.payments.get(request.payment_hash)
        if payment is None:
            context.abort(wire().grpc.StatusCode.NOT_FOUND, "payment isn't initiated")
            return
        yield from self._updates(payment, context)

    def ResetMissionControl(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        self.node.forgot += 1
        return wire().router.ResetMissionControlResponse()

    def _updates(self, payment: StoredPayment, context: Any) -> Iterator[Any]:
        status = None
        while context.is_active():
            with self.network.changed:
                if payment.status == status:
                    self.network.changed.wait(0.05)
                if payment.status == status:
                    continue
                status = payment.status
                message = self.node.payment_message(payment)
            yield message
            if status != IN_FLIGHT:
                return


class Invoices(_Service):
    def AddHoldInvoice(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        with self.network.changed:
            if request.hash in self.node.invoices:
                context.abort(wire().grpc.StatusCode.UNKNOWN, "invoice with payment hash already exists")
            text = self.node.add_invoice(request.value_msat, request.hash, b"", request, hold=True)
        return wire().invoices.AddHoldInvoiceResp(payment_request=text)

    def LookupInvoiceV2(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        return self.node.invoice_message(self._stored(request.payment_hash, context, "NOT_FOUND"))

    def SettleInvoice(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        with self.network.changed:
            stored = self._stored(hashlib.sha256(request.preimage).digest(), context, "UNKNOWN")
            words = {OPEN: "invoice still open", CANCELED: "invoice already canceled"}.get(stored.state)
            if words is not None:
                context.abort(wire().grpc.StatusCode.UNKNOWN, words)
            if stored.state == ACCEPTED:
                stored.preimage = request.preimage
                self.network.settle(stored)
        return wire().invoices.SettleInvoiceResp()

    def CancelInvoice(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.node.admit(context)
        with self.network.changed:
            stored = self._stored(request.payment_hash, context, "UNKNOWN")
            if stored.state == SETTLED:
                context.abort(wire().grpc.StatusCode.UNKNOWN, "invoice already settled")
            self.network.cancel(stored)
        return wire().invoices.CancelInvoiceResp()

    def SubscribeSingleInvoice(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.node.admit(context)
        stored = self._stored(request.r_hash, context, "NOT_FOUND")
        state = None
        while context.is_active():
            with self.network.changed:
                if stored.state == state:
                    self.network.changed.wait(0.05)
                if stored.state == state:
                    continue
                state = stored.state
                message = self.node.invoice_message(stored)
            yield message

    def _stored(self, payment_hash: bytes, context: Any, code: str) -> StoredInvoice:
        stored = self.node.invoices.get(payment_hash)
        if stored is None:
            context.abort(wire().grpc.StatusCode[code], "unable to locate invoice")
        assert stored is not None
        return stored


def self_signed(valid_for: dt.timedelta) -> tuple[bytes, bytes]:
    """Certificate and key (PEM) for 127.0.0.1, as lnd makes its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lnd double")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + valid_for)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), pem


def write_invoice(
    key: ec.EllipticCurvePrivateKey,
    *,
    chain: str,
    amount_msat: int,
    payment_hash: bytes,
    description_hash: bytes,
    created: int,
    expiry: int,
) -> str:
    """An invoice's text (BOLT 11), written by hand: the reader's other half, not its code."""
    head = f"ln{chain}{amount_msat * 10}p"
    words = number_words(created, 7)
    for tag, field_words in (
        (1, octet_words(payment_hash)),
        (23, octet_words(description_hash)),
        (6, number_words(expiry, 4)),
    ):
        words += [tag, len(field_words) // 32, len(field_words) % 32, *field_words]
    packed = int("".join(f"{word:05b}" for word in words).ljust(-(-len(words) * 5 // 8) * 8, "0"), 2)
    digest = hashlib.sha256(head.encode() + packed.to_bytes(-(-len(words) * 5 // 8), "big")).digest()
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    words += octet_words(r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\0")
    return head + "1" + "".join(LETTERS[word] for word in [*words, *checksum(head, words)])


def number_words(value: int, count: int) -> list[int]:
    return [value >> 5 * place & 31 for place in reversed(range(count))]


def octet_words(data: bytes) -> list[int]:
    bits = "".join(f"{octet:08b}" for octet in data)
    bits += "0" * (-len(bits) % 5)
    return [int(bits[place : place + 5], 2) for place in range(0, len(bits), 5)]


def checksum(head: str, words: list[int]) -> list[int]:
    values = [ord(c) >> 5 for c in head] + [0] + [ord(c) & 31 for c in head] + words + [0] * 6
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return [(check ^ 1) >> 5 * (5 - place) & 31 for place in range(6)]
