"""The calls that a network is made with: a node is dialled with its whole certificate or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledgers.lightning.errors import NodeFailed
from ledgers.lightning.nodes.lnd import SERVER_ACTIVE, NodeCalls
from ledgers.lightning.nodes.network import LightningNetwork


@pytest.mark.nodes
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_certificate_that_lnd_is_still_writing_does_not_spoil_the_channel(
    lightning_network: LightningNetwork, tmp_path: Path
) -> None:
    at = lightning_network.address("van")
    whole = at.tls_cert_path.read_bytes()
    file = tmp_path / "tls.cert"
    calls = NodeCalls("van", address=at.address, certificate=file, macaroon=at.macaroon_path)
    try:
        assert calls.state() is None
        for part in (b"", whole[:100], whole[: len(whole) // 2]):
            file.write_bytes(part)
            assert calls.state() is None
            with pytest.raises(NodeFailed, match="node 'van' is still writing its certificate"):
                calls.info()
        file.write_bytes(whole)
        assert calls.state() == SERVER_ACTIVE
    finally:
        calls.close()
