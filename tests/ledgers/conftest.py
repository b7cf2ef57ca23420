"""A made-up but plausible V2G session, from figures to a whole certificate folder.

The session: 5 kWh into the van, 3 kWh back, seen by the charger's meter (AC), the van's BMS (DC), an analyzer (both).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledgers.asset_fields import build_asset
from ledgers.canonical import Json, to_base64, to_canonical
from ledgers.certificate import LedgerEvidence, OcmfEvidence, issue_certificate, write_record
from ledgers.evidence import TrustedSigner
from ledgers.formats.entry import Proposal, submitted_entry
from ledgers.formats.ocmf import OcmfSession, write_ocmf
from ledgers.formats.tlog import Checkpoint, Tree, emulated_log_key, format_proof, leaf_hash
from ledgers.identity import Identity, SeedKeys
from ledgers.ports import Member
from ledgers.records import (
    Alarm,
    AssetField,
    BatteryUse,
    Device,
    Direction,
    Energy,
    EnergyFigure,
    GridOrder,
    LimitResult,
    LimitVerdict,
    Material,
    Outcome,
    Plane,
    Samples,
    Session,
    SignedRecord,
    Station,
    UsageRecord,
    WitnessStatement,
    reconcile,
    sign_record,
    sign_statement,
    trace_pair,
    utc_text,
)

BEGIN_UTC_S = 1_772_359_200.0  # 2026-03-01T10:00:00Z
END_UTC_S = BEGIN_UTC_S + 3600.0
RECORD_ID = "urn:v2gbench:record:emulated:0001"
ORIGIN = "v2gbench.example/emulated/monitoring"
ROLES = {"charger": "charger", "van": "vehicle", "analyzer": "power_meter"}

# witness, plane, import Wh, export Wh, relative expanded uncertainty
FIGURES = (
    ("charger", Plane.AC, 5012.4, 2990.2, 0.01),
    ("analyzer", Plane.AC, 5020.1, 2984.6, 0.002),
    ("van", Plane.DC, 4790.0, 3168.0, 0.02),
    ("analyzer", Plane.DC, 4775.3, 3160.7, 0.002),
)


def figure(witness: str, plane: Plane, value_wh: float, relative: float) -> EnergyFigure:
    return EnergyFigure(
        witness=witness,
        plane=plane,
        value_wh=value_wh,
        expanded_uncertainty_wh=abs(value_wh) * relative,
        coverage_factor=2,
        contributions={"gain": abs(value_wh) * relative},
        reason=None,
    )


def energy_of(figures: tuple[tuple[str, Plane, float, float, float], ...] = FIGURES) -> Energy:
    return Energy(
        imported=tuple(figure(name, plane, imported, u) for name, plane, imported, _, u in figures),
        exported=tuple(figure(name, plane, exported, u) for name, plane, _, exported, u in figures),
    )


@dataclass(frozen=True)
class Bench:
    """Keys of one seed and everything that they sign."""

    seed: int = 7

    @property
    def keys(self) -> SeedKeys:
        return SeedKeys(self.seed, any_metal=False)

    def identity(self, name: str, role: str) -> Identity:
        return self.keys.identity(name, role)

    @property
    def station(self) -> Identity:
        return self.identity("emulated", "charging_station")

    def record(self, energy: Energy | None = None, *, small: bool = False) -> UsageRecord:
        energy = energy or energy_of()
        begin, end = utc_text(BEGIN_UTC_S), utc_text(END_UTC_S)
        witnesses = dict.fromkeys(f.witness for f in (*energy.imported, *energy.exported))
        lag = trace_pair("time_lag", Plane.AC, "charger", "analyzer", value=0.4, unit="s", allowed=2.0, reason=None)
        return UsageRecord(
            record_id=RECORD_ID,
            station=Station(name="emulated", sha256="ab" * 32, material=Material.EMULATED),
            session=Session(
                session_id="0001",
                plan="v2g_session",
                begin=begin,
                end=end,
                outcome=Outcome.COMPLETED,
                outcome_reason=None,
                orders=() if small else (order(),),
            ),
            devices=tuple(device(name) for name in witnesses),
            asset=asset()[:3] if small else asset(),
            energy=energy,
            reconciliation=reconcile(energy, [] if small else [lag]),
            battery_use=battery_use(),
            alarms=() if small else (alarm(),),
            limits=() if small else (limit(),),
            samples=Samples(count=3600, cycle_s=1.0, sha256="cd" * 32),
            witnesses=tuple(
                sign_statement(
                    WitnessStatement(
                        witness=name,
                        role=ROLES[name],
                        record_id=RECORD_ID,
                        material=Material.EMULATED,
                        begin=begin,
                        end=end,
                        energy=energy.by_witness(name),
                    ),
                    self.identity(name, ROLES[name]),
                )
                for name in witnesses
            ),
        )

    def signed(self, energy: Energy | None = None, *, small: bool = False) -> SignedRecord:
        return sign_record(self.record(energy, small=small), self.station)

    def ocmf(self, direction: Direction, energy_wh: float, pagination: int) -> str:
        return write_ocmf(ocmf_session(), direction, energy_wh=energy_wh, pagination=pagination, meter=self.meter)

    @property
    def meter(self) -> Identity:
        return self.identity("charger", "charger")

    def settlement_receipt(self, record: SignedRecord, *, import_wh: str = "5012.4") -> bytes:
        signer = self.identity("settlement", "settlement")
        lines: list[Json] = [
            quote_line("import_energy", "ev_owner", "aggregator", import_wh, 1_503_720),
            quote_line("v2g_energy", "aggregator", "ev_owner", "2990.2", 747_550),
        ]
        unsigned: dict[str, Json] = {
            "schema": "v2gbench.settlement-receipt/1.0",
            "status": "settled",
            "hold_id": "hold-1",
            "record_sha256": record.sha256,
            "quote": {
                "record_sha256": record.sha256,
                "tariff_name": "example",
                "tariff_sha256": "ef" * 32,
                "currency": "EUR",
                "lines": lines,
            },
            "settled_utc": "2026-11-21T09:00:00.000Z",
            "signer": {
                "name": signer.name,
                "role": signer.role,
                "public_key": to_base64(signer.public_key_der),
            },
        }
        return to_canonical({**unsigned, "signature": to_base64(signer.sign(to_canonical(unsigned)))})

    def entry(self, record_sha256: str, *, channel: str = "monitoring", index: int = 1) -> bytes:
        """What the monitoring contract writes for a usage record, at the place where `proof` puts it."""
        document: dict[str, Json] = {
            "session_id": "0001",
            "vehicle_id": "van",
            "record_sha256": record_sha256,
            "utc_s": END_UTC_S,
        }
        by = self.identity("the_station", "charging_station")
        argument = to_canonical(document).decode().removesuffix("\n")
        proposal = Proposal(channel, channel, "usage", (argument,), Member.of(by))
        return submitted_entry(
            proposal,
            by.sign(proposal.signed_bytes),
            tx_id=proposal.tx_id,
            index=index,
            previous="12" * 32,
            utc=utc_text(END_UTC_S),
            version=f"{channel}/1.0",
            writes={"usage/0001": document},
            events=(),
            derived={},
        )

    def proof(self, entry: bytes) -> str:
        log = emulated_log_key(self.keys, "log")
        tree = Tree()
        for leaf in (b"one", entry, b"three", b"four", b"five"):
            tree.append(leaf_hash(leaf))
        note = Checkpoint(ORIGIN, len(tree), tree.root()).signed(log)
        return format_proof(1, tree.inclusion_proof(1), note)

    def write_folder(self, folder: Path, record: SignedRecord | None = None) -> dict[str, Path]:
        """Every file but the certificate; the ledger entry carries the record's hash, as a contract writes it."""
        record = record or self.signed()
        (folder / "records").mkdir(parents=True)
        paths = {
            name: folder / "records" / file
            for name, file in (
                ("record", "usage_record.json"),
                ("import", "import.ocmf"),
                ("export", "export.ocmf"),
                ("entry", "monitoring.entry"),
                ("proof", "monitoring.tlog-proof"),
                ("record_proof", "record.tlog-proof"),
                ("settlement", "settlement.json"),
            )
        }
        energies = {direction: record.record.energy.of(direction)[0].value_wh or 0.0 for direction in Direction}
        entry = self.entry(record.sha256)
        write_record(paths["record"], record)
        paths["import"].write_text(self.ocmf(Direction.IMPORT, energies[Direction.IMPORT], 1))
        paths["export"].write_text(self.ocmf(Direction.EXPORT, energies[Direction.EXPORT], 2))
        paths["entry"].write_bytes(entry)
        paths["proof"].write_text(self.proof(entry))
        paths["record_proof"].write_text(self.proof(record.to_bytes()))
        paths["settlement"].write_bytes(self.settlement_receipt(record))
        return paths

    def certify(self, folder: Path, record: SignedRecord | None = None) -> Path:
        return self.issue(folder, self.write_folder(folder, record))

    def issue(self, folder: Path, paths: dict[str, Path]) -> Path:
        log_key = emulated_log_key(self.keys, "log").public_key_der
        return issue_certificate(
            folder,
            record=paths["record"],
            ocmf=OcmfEvidence("charger", paths["import"], paths["export"]),
            ledger=[
                LedgerEvidence("monitoring", ORIGIN, log_key, paths["proof"], paths["entry"]),
                LedgerEvidence("records", ORIGIN, log_key, paths["record_proof"], None),
            ],
            settlement_receipt=paths["settlement"],
            issuer=self.station,
            valid_from=utc_text(END_UTC_S),
        )

    def trusted(self) -> list[TrustedSigner]:
        return [
            TrustedSigner.of("station", self.station),
            *(TrustedSigner.of("witness", self.identity(name, role)) for name, role in ROLES.items()),
            TrustedSigner.of_key("log", ORIGIN, emulated_log_key(self.keys, "log").public_key_der),
            TrustedSigner.of("settlement", self.identity("settlement", "settlement")),
        ]


def quote_line(kind: str, payer: str, payee: str, quantity: str, amount_micro: int) -> dict[str, Json]:
    return {
        "kind": kind,
        "payer": payer,
        "payee": payee,
        "quantity": quantity,
        "quantity_unit": "Wh",
        "price": "300",
        "price_unit": "EUR/MWh",
        "amount_micro": amount_micro,
        "remainder_micro": "0/1",
    }


def ocmf_session(**changes: object) -> OcmfSession:
    fields: dict[str, object] = {
        "meter_vendor": "AME",
        "meter_model": "V2G 3p10kW",
        "meter_serial": "EMU-CH-1",
        "meter_firmware": "1.0",
        "charge_box": "evse1",
        "connector": 1,
        "begin_utc_s": BEGIN_UTC_S,
        "end_utc_s": END_UTC_S,
        "material": Material.EMULATED,
        "identification": "TAG-1",
    }
    return OcmfSession(**{**fields, **changes})  # type: ignore[arg-type]  # a test's keyword bag


def order() -> GridOrder:
    return GridOrder(
        order_id="order-1",
        kind="load_decrease",
        begin=utc_text(BEGIN_UTC_S + 600),
        end=utc_text(BEGIN_UTC_S + 1800),
        requested_power_w=-7000.0,
        delivered_power_w=-6950.5,
        delivered_energy_wh=-2316.833,
        measured_by="analyzer",
        reason=None,
    )


def device(name: str) -> Device:
    return Device(
        name=name,
        role=ROLES[name],
        driver="modbus",
        material=Material.EMULATED,
        manufacturer="v2gbench",
        model=f"{name} twin",
        serial="EMU-1",
        firmware="1.0",
    )


def asset() -> tuple[AssetField, ...]:
    return build_asset(
        {
            "vehicle.asset_id": "env200-fav",
            "vehicle.soc_percent": 61.25,
            "vehicle.pack_voltage_v": 368.4,
            "vehicle.pack_current_a": 13.2,
            "vehicle.pack_temperature_1_c": 22.4,
            "session.utc": END_UTC_S,
        },
        {"vehicle.pack_temperature_3_c": "the pack has three sensors"},
    )


def battery_use() -> BatteryUse:
    return BatteryUse(
        witness="van",
        soc_begin_percent=56.5,
        soc_end_percent=61.25,
        throughput_ah=21.7,
        equivalent_full_cycles=0.094348,
        pack_temperature_min_c=21.9,
        pack_temperature_max_c=None,
        soh_percent=97.0,
        reasons={"pack_temperature_max_c": "the sensor gave no data"},
    )


def alarm() -> Alarm:
    return Alarm(
        name="pack_temperature",
        utc=utc_text(BEGIN_UTC_S + 1200),
        text="above 30 degC",
        value=30.2,
        threshold=30.0,
        unit="degC",
    )


def limit() -> LimitResult:
    return LimitResult(
        name="pack_temperature_c",
        unit="degC",
        limit="x < 45",
        worst_value=30.2,
        margin=14.8,
        verdict=LimitVerdict.WARN,
        reason=None,
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def bench_of_seed() -> Callable[[int], Bench]:
    return Bench


@pytest.fixture
def make_energy() -> Callable[..., Energy]:
    return energy_of


@pytest.fixture
def make_ocmf_session() -> Callable[..., OcmfSession]:
    return ocmf_session
