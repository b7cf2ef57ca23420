"""Opens the settlement that a station file names: accounts in the run folder, or real Lightning nodes.

In two steps, because they have two lives. Nodes take seconds to start, and minutes when their programs are built for
the first time; nothing may hang on an opened charger for so long. So `payment_nodes` comes before the rack, and
`open_settlement`, which needs the run folder, after it. For embedded accounts the first step does nothing.

The nodes are btcd and lnd on a private regtest chain: a hub, and a spoke for each party of the tariff. They live for
one session, begin with the same balances each time, and leave nothing but the receipt and the journal in the run
folder. Each party's client may do what a party does and nothing more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from bench.session_network import SessionNetwork
from bench.station import Station
from bench.station.model import LightningSettlement as LightningPart
from bench.station.payment_network import account_nodes, session_network
from ledgers.embedded.settlement import EmbeddedSettlement
from ledgers.errors import SettlementError
from ledgers.identity import Identity
from ledgers.lightning.client import LndClient, NodeAccess, Role
from ledgers.lightning.modes import Mode
from ledgers.lightning.nodes.build import build_programs
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.session import take_snapshot
from ledgers.lightning.pricing import Rate
from ledgers.lightning.settlement import LightningSettlement
from ledgers.ports import Settlement
from ledgers.tariff import load_tariff

OPENING_BALANCE_MICRO = 100_000_000
"""What each party of embedded accounts begins with: 100 EUR."""

EMBEDDED_ACCOUNTS = ("ev_owner", "aggregator", "charging_station")

Nodes = Mapping[str, LndClient]


class PaymentNodes(dict[str, LndClient]):
    """The client of each account's node, and the network that they are in; no network for embedded accounts."""

    def __init__(self, clients: Nodes | None = None, network: SessionNetwork | None = None) -> None:
        super().__init__(clients or {})
        self.network = network


class OpenSettlement(Settlement, Protocol):
    """The port, and what every settlement of the bench tells beside it."""

    def balances(self) -> Mapping[str, int]:
        """Micro-euro of every account, and of what is held."""


@contextmanager
def payment_nodes(station: Station) -> Iterator[PaymentNodes]:
    """The running nodes by account of the tariff, checked and ready to pay; none for a station of embedded accounts.

    Raises ledgers.lightning.errors.LightningError when the programs cannot be built or a node does not come up;
    RecordError for a wrong tariff. Nothing is left running.
    """
    if not isinstance(station.settlement, LightningPart):
        yield PaymentNodes()
        return
    tariff = load_tariff(station.tariff_path)
    parties, plan = account_nodes(tariff), session_network(tariff)
    with LightningNetwork(plan, progress=BuildProgress(sys.__stderr__)) as network, ExitStack() as stack:
        clients = {account: _party_client(network, node, stack) for account, node in parties.items()}
        yield PaymentNodes(clients, SessionNetwork(network, parties, take_snapshot(network)))


@contextmanager
def open_settlement(station: Station, folder: Path, *, identity: Identity, nodes: Nodes) -> Iterator[OpenSettlement]:
    """The settlement of the station in `folder`, its receipts signed by `identity`; `nodes` from `payment_nodes`.

    Raises SettlementError for a Lightning station without nodes, LedgerError as the settlements do.
    """
    tariff, part = load_tariff(station.tariff_path), station.settlement
    fsync = station.clock != "stepped"
    if isinstance(part, LightningPart):
        if not nodes:
            raise SettlementError(
                f"station {station.name!r} is paid over Lightning, and no node runs; start them first"
            )
        with LightningSettlement(
            folder,
            tariff=tariff,
            rate=Rate(part.rate.eur_per_btc, part.rate.source),
            mode=Mode(part.mode),
            nodes=nodes,
            identity=identity,
            wall_utc_s=time.time,
            fsync=fsync,
        ) as lightning:
            yield lightning
        return
    with EmbeddedSettlement(folder, tariff=tariff, identity=identity, wall_utc_s=time.time, fsync=fsync) as embedded:
        for account in EMBEDDED_ACCOUNTS:
            embedded.deposit(account, OPENING_BALANCE_MICRO, payment_id=f"opening-{account}")
        yield embedded


def ready_the_nodes(station: Station) -> None:
    """Build the node programs of a Lightning station where they are missing; says how far it is, in minutes of work."""
    if isinstance(station.settlement, LightningPart):
        build_programs(progress=BuildProgress(sys.__stderr__))


class BuildProgress:
    """Says on `stream` how far the programs are, each tenth of the way; silent while nodes merely start."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._told = -1

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` are built; a total of 0 is another kind of work."""
        tenth = 10 * done // total if total else self._told
        if self._stream is not None and tenth > self._told:
            self._told = tenth
            print(f"building the lightning nodes, once on this machine: {10 * tenth} % ({what})", file=self._stream)


def _party_client(network: LightningNetwork, name: str, stack: ExitStack) -> LndClient:
    where = network.address(name)
    access = NodeAccess.from_files(name, where.address, certificate=where.tls_cert_path, macaroon=where.macaroon_path)
    with LndClient(access) as admin:
        client = LndClient(access.with_macaroon(admin.bake(Role.PARTY)))
    stack.callback(client.close)
    client.check()
    return client
