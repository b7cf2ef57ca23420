"""The desk: who signs what, the ledger of a run, and its accounts.

Emulated parties get keys from the station's seed; as soon as one device is metal, keys come from the files that
`v2gbench init` made. Parties of the channels carry their role as name; devices and the station carry their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.commands.init import key_names
from bench.crossing import monitoring_document
from bench.safety import Snapshot
from bench.session import GridOrder
from bench.settlement import Nodes, open_settlement, payment_nodes
from bench.station import Station
from drivers.clock import SessionClock
from drivers.errors import ConfigError
from ledgers.canonical import Json, to_canonical
from ledgers.embedded.ledger import EmbeddedLedger
from ledgers.errors import ContractRefused, KeyMaterialError
from ledgers.evidence import TrustedSigner
from ledgers.formats.tlog import LogKey, emulated_log_key, stored_log_key
from ledgers.identity import FileKeys, Identity, SeedKeys
from ledgers.ports import Member, Receipt

SETTLEMENT_SIGNER = "aggregator"  # keeps the accounts: it pays for flexibility


class Keyring:
    """The identities of one station."""

    def __init__(self, station: Station) -> None:
        folder = station.keys_folder
        self._names = key_names(station)
        self._source: SeedKeys | FileKeys = (
            SeedKeys(station.seed or 0, station.any_metal) if folder is None else FileKeys(folder)
        )
        self._station = station
        self._held: dict[str, Identity] = {}

    def identity(self, name: str, role: str) -> Identity:
        """The key of a device, party or the station; ConfigError says how to make it."""
        held = self._held.get(name)
        if held is None:
            try:
                held = self._held[name] = self._source.identity(name, role)
            except KeyMaterialError as error:
                raise ConfigError(str(error)) from error
        return held

    def require_all(self) -> None:
        """Load every key that a certified session needs, so that a missing one is told before anything is opened.

        Raises ConfigError naming the first missing or unusable key and how to make it.
        """
        for device in self._names.witnesses:
            self.witness(device)
        for party in (*self._names.parties, self._names.contract):
            self.party(party)
        self.identity(self._names.station, "station")
        self.log.public_key_der  # noqa: B018  # read for its error alone

    @property
    def station(self) -> Identity:
        """Who signs the usage record."""
        return self.identity(self._names.station, "station")

    def witness(self, device: str) -> Identity:
        """The key of a device."""
        return self.identity(device, self._station.devices[device].role)

    def party(self, role: str) -> Identity:
        """The key of a party of the channels, named by its role."""
        return self.identity(role, role)

    @property
    def parties(self) -> tuple[Identity, ...]:
        """All parties of the channels."""
        return tuple(self.party(role) for role in self._names.parties)

    @property
    def log(self) -> LogKey:
        """Who signs the ledger's checkpoints."""
        try:
            if isinstance(self._source, SeedKeys):
                return emulated_log_key(self._source, self._names.log)
            return stored_log_key(self._source, self._names.log)
        except KeyMaterialError as error:
            raise ConfigError(str(error)) from error

    def trusted(self, origin: str) -> tuple[TrustedSigner, ...]:
        """Everybody whose signature a certificate of this station may carry, for a trust file."""
        return (
            TrustedSigner.of("station", self.station),
            *(TrustedSigner.of("witness", self.witness(device)) for device in self._names.witnesses),
            *(
                TrustedSigner.of_key("log", f"{origin}/{channel}", self.log.public_key_der)
                for channel in ("monitoring", "remuneration", "alarms")
            ),
            TrustedSigner.of("settlement", self.party(SETTLEMENT_SIGNER)),
        )


class Desk:
    """Ledger and accounts of one run folder; a context manager.

    `nodes` are those of `bench.settlement.payment_nodes`, running already; the desk starts its own without them.
    """

    def __init__(
        self, station: Station, folder: Path, clock: SessionClock, *, session_id: str, nodes: Nodes | None = None
    ) -> None:
        self.keyring = Keyring(station)
        self.origin = f"v2gbench.{station.name}"
        self.session_id = session_id
        self.vehicle_id = station.device_of("vehicle") or "vehicle"
        self.refusals: list[str] = []
        self._station = station
        self._folder = folder
        self._clock = clock
        self._nodes = nodes
        self._stack = ExitStack()
        self._last_report_s = -1.0
        self._observed = False
        self.receipts: dict[str, list[Receipt]] = {"monitoring": [], "remuneration": [], "alarms": []}

    def __enter__(self) -> Self:
        stepped = self._station.clock == "stepped"
        with ExitStack() as stack:
            self.ledger = stack.enter_context(
                EmbeddedLedger(
                    self._folder / "ledger",
                    origin=self.origin,
                    log_key=self.keyring.log,
                    contract_identity=self.keyring.party("contract"),
                    members=[Member.of(identity) for identity in self.keyring.parties],
                    clock_utc_s=lambda: self._clock.utc_s,
                    fsync=not stepped,
                )
            )
            nodes = stack.enter_context(payment_nodes(self._station)) if self._nodes is None else self._nodes
            self.settlement = stack.enter_context(
                open_settlement(
                    self._station,
                    self._folder / "settlement",
                    identity=self.keyring.party(SETTLEMENT_SIGNER),
                    nodes=nodes,
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def announce(self, order: GridOrder, start_utc_s: float) -> Receipt:
        """The grid operator's order, on the remuneration channel."""
        return self._keep(
            self.ledger.submit(
                "remuneration",
                "remuneration",
                "order",
                _json(
                    {
                        "order_id": f"{self.session_id}.{order.order_id}",
                        "vehicle_id": self.vehicle_id,
                        "utc_s": round(self._clock.utc_s, 3),
                        "direction": order.direction,
                        "start_utc_s": round(start_utc_s, 3),
                        "duration_s": order.duration_s,
                        "ordered_power_w": order.power_w,
                    }
                ),
                identity=self.keyring.party("dso"),
            )
        )

    def declare_baseline(self, start_utc_s: float, duration_s: float, power_w: float) -> Receipt:
        """What the vehicle would draw without orders."""
        return self._keep(
            self.ledger.submit(
                "remuneration",
                "remuneration",
                "baseline",
                _json(
                    {
                        "vehicle_id": self.vehicle_id,
                        "utc_s": round(self._clock.utc_s, 3),
                        "start_utc_s": round(start_utc_s, 3),
                        "duration_s": duration_s,
                        "baseline_power_w": power_w,
                    }
                ),
                identity=self.keyring.party("aggregator"),
            )
        )

    def watch(self, _index: int, snapshot: Snapshot, _now_s: float) -> None:
        """Report each new vehicle reading to the monitoring contract; a listener of the cycle."""
        vehicle = snapshot.vehicle
        if vehicle is None or vehicle.soc.mono_s <= self._last_report_s or not vehicle.plug_state.is_good:
            return
        self._last_report_s = vehicle.soc.mono_s
        power = snapshot.charger.ac_power if snapshot.charger is not None else None
        document = monitoring_document(self.vehicle_id, vehicle.soc.utc_s, vehicle, power)
        try:
            receipt = self.ledger.submit(
                "monitoring",
                "monitoring",
                "observe",
                _json(document),
                identity=self.keyring.party("charging_station"),
            )
            self._observed = True
        except ContractRefused as refusal:
            self.refusals.append(str(refusal))
            return
        # Hundreds of plain reports would bury what matters: those that raised an alarm or began a V2G event are kept.
        if receipt.derived:
            self._keep(receipt)

    def anchor(self, record_sha256: str) -> tuple[Receipt, ...]:
        """Anchor a usage record on the monitoring and the remuneration channel."""
        document = _json(
            {
                "session_id": self.session_id,
                "vehicle_id": self.vehicle_id,
                "record_sha256": record_sha256,
                "utc_s": round(self._clock.utc_s, 3),
            }
        )
        return tuple(
            self._keep(self.ledger.submit(channel, channel, "usage", document, identity=self.keyring.party(role)))
            for channel, role in (("monitoring", "charging_station"), ("remuneration", "aggregator"))
        )

    def vehicle_state(self) -> Mapping[str, Json]:
        """What the monitoring contract knows of the vehicle; empty while nobody reported anything of it."""
        if not self._observed:
            return {}
        answer = self.ledger.evaluate(
            "monitoring",
            "monitoring",
            "vehicle",
            _json({"vehicle_id": self.vehicle_id}),
            identity=self.keyring.party("ev_owner"),
        )
        state: Mapping[str, Json] = json.loads(answer)
        return state

    def _keep(self, receipt: Receipt) -> Receipt:
        for written in (receipt, *receipt.derived):
            self.receipts[written.channel].append(written)
        return receipt


def _json(document: Mapping[str, Json]) -> str:
    return to_canonical(document).decode().rstrip("\n")
