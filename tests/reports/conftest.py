"""A one-hour session with two grid orders at a 1 s cycle, as a bench would leave it: synthetic, but with the losses,
noise, warming and dead-times of a 10 kW charger at a 40 kWh van."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ledgers.canonical import Json
from ledgers.identity import Identity, SeedKeys
from ledgers.records import (
    Alarm,
    AssetField,
    BatteryUse,
    Device,
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
from reports.run import Event, Run, RunWriter

START_UTC_S = 1_772_366_400.0  # 2026-03-01T12:00:00Z
ORDERS = ((600.0, 1500.0, -8000.0), (1920.0, 3000.0, 6000.0))
EFFICIENCY = 0.94
LIMITS: dict[str, Json] = {
    "power_w": {"min": -10000.0, "max": 10000.0},
    "pack_temperature_c": {"max": 45.0, "warn": 30.0},
    "soc_percent": {"min": 15.0, "warn_below": 20.0, "warn": 90.0, "max": 95.0},
}


@dataclass(frozen=True)
class SetPower:
    requested_w: float
    accepted_w: float
    clamped_by: str = "nobody"
    refused: bool = False
    code: int | str | None = None


@dataclass(frozen=True)
class Made:
    """A run folder, and the names that its devices were given."""

    folder: Path
    charger: str


def make_session(
    root: Path, *, charger: str = "charger", seconds: int = 3600, verdict: str = "pass", with_record: bool = True
) -> Made:
    noise = np.random.default_rng(7)
    ac_w = soc = 0.0
    pack_wh, temperature_c = 22_000.0, 24.0
    imported_wh = exported_wh = dc_imported_wh = dc_exported_wh = 0.0
    manifest: dict[str, Json] = {
        "station_sha256": "5a" * 32,
        "material": "emulated",
        "limits": LIMITS,
        "versions": {"v2gbench": "0.1.0", "python": "3.11.7"},
    }
    with RunWriter.create(
        root, plan="v2g_session", station="emulated", stepped=True, manifest=manifest, now_s=lambda: 0.0
    ) as writer:
        ordered_w = 0.0
        for second in range(seconds + 1):
            at_s, utc_s = float(second), START_UTC_S + second
            wanted_w = next((power for begin, end, power in ORDERS if begin <= at_s < end), 0.0)
            set_power = None
            if wanted_w != ordered_w:
                ordered_w = wanted_w
                set_power = SetPower(wanted_w, wanted_w)
                if wanted_w == -8000.0:
                    set_power = SetPower(wanted_w, -7800.0, "vehicle")
            target_w = -7800.0 if ordered_w == -8000.0 else ordered_w
            ac_w += max(-700.0, min(700.0, target_w - ac_w))
            dc_w = ac_w * EFFICIENCY if ac_w > 0 else ac_w / EFFICIENCY
            pack_wh += dc_w / 3600
            soc = pack_wh / 40_000 * 100
            volts = 340 + 0.9 * soc + dc_w / 360 * 0.08
            temperature_c += (abs(dc_w) / 10_000) ** 2 * 0.0058 - (temperature_c - 22) * 0.00004
            imported_wh += max(ac_w, 0) / 3600
            exported_wh += max(-ac_w, 0) / 3600
            dc_imported_wh += max(dc_w, 0) / 3600
            dc_exported_wh += max(-dc_w, 0) / 3600
            missing = 2400 <= second < 2430  # the analyzer answered nothing for half a minute

            def row(name: str, unit: str, value: float, at: float = at_s, utc: float = utc_s) -> tuple:  # type: ignore[type-arg] # a row as the writer takes it
                return (value, unit, at, utc, name, "no_data" if math.isnan(value) else "good")

            def analyzer(name: str, unit: str, value: float, gap: bool = missing) -> tuple:  # type: ignore[type-arg]
                return row(f"analyzer.{name}", unit, math.nan if gap else value)

            jitter = noise.normal(0, 1, 6)
            rows = [
                row(f"{charger}.ac_power", "W", round(ac_w * 1.004 + 6 * jitter[0], 0)),
                row(f"{charger}.soc", "%", round(soc)),
                row(f"{charger}.import_energy", "Wh", round(imported_wh * 1.004)),
                row(f"{charger}.export_energy", "Wh", round(exported_wh * 1.004)),
                row(f"{charger}.grid_voltage", "V", 230.4 + 0.3 * jitter[1]),
                row(f"{charger}.grid_frequency", "Hz", 50.0 + 0.01 * jitter[2]),
                analyzer("ac_power", "W", ac_w + 1.5 * jitter[3]),
                analyzer("dc_power", "W", dc_w + 1.5 * jitter[4]),
                analyzer("dc_voltage", "V", volts),
                analyzer("ac_import_energy", "Wh", imported_wh),
                analyzer("ac_export_energy", "Wh", exported_wh),
            ]
            if second % 10 == 0:
                rows += [
                    row("van.pack_voltage", "V", round(volts * 2) / 2),
                    row("van.pack_current", "A", round(dc_w / volts * 2 + 0.2 * jitter[5]) / 2),
                    row("van.soc", "%", round(soc, 1)),
                    *(row(f"van.pack_t{i + 1}", "degC", round(temperature_c + 0.5 * i)) for i in range(3)),
                    row("van.pack_t4", "degC", math.nan),
                    row("van.ambient_temperature", "degC", 22.0),
                ]
            events = []
            if set_power is not None:
                events.append(Event(at_s, utc_s, "session", "order", {"power_w": wanted_w}))
            writer.record_cycle(second, at_s, utc_s, rows, set_power, events)
        writer.close(verdict=verdict, reason="" if verdict == "pass" else "pack temperature above 45 °C")
    if with_record:
        energies = (imported_wh, exported_wh, dc_imported_wh, dc_exported_wh)
        _write_documents(writer.folder, charger, energies, soc, seconds)
    return Made(writer.folder, charger)


def _write_documents(
    folder: Path, charger: str, energies: tuple[float, float, float, float], soc_percent: float, seconds: int
) -> None:
    with Run.open(folder) as run:
        sha256 = run.samples_sha256()
    signed = _signed_record(charger, energies, soc_percent, seconds, sha256)
    records = folder / "records"
    (records / "usage_record.json").write_bytes(signed.to_bytes())
    (records / "settlement.json").write_text(
        json.dumps(
            {
                "receipt": {
                    "schema": "v2gbench.settlement-receipt/1.0",
                    "record_sha256": signed.sha256,
                    "status": "settled",
                    "import_micro_eur": -413_250,
                    "export_micro_eur": 585_000,
                    "availability_micro_eur": 31_120,
                    "net_micro_eur": 202_870,
                }
            }
        )
    )
    receipt = {
        "channel": "monitoring",
        "index": 3,
        "tx_id": "c0" * 32,
        "leaf_hash": "1f" * 32,
        "size": 4,
        "derived": [],
    }
    summary = {"verdict": "PASS", "ledger": {"monitoring": receipt, "alarms": {**receipt, "channel": "alarms"}}}
    (folder / "summary.json").write_text(json.dumps(summary))
    certificate = {
        "@context": ["https://www.w3.org/ns/credentials/v2"],
        "id": "urn:v2gbench:certificate:1",
        "type": ["VerifiableCredential"],
        "issuer": "did:key:zDnaeSynthetic",
        "validFrom": "2026-03-01T13:00:00.000Z",
        "credentialSubject": {"record_sha256": signed.sha256},
    }
    (folder / "certificate.json").write_text(json.dumps(certificate))


def _signed_record(
    charger: str, energies: tuple[float, float, float, float], soc_percent: float, seconds: int, sha256: str
) -> SignedRecord:
    keys = SeedKeys(7, any_metal=False)
    begin, end = utc_text(START_UTC_S), utc_text(START_UTC_S + seconds)
    ac_import, ac_export, dc_import, dc_export = energies
    contributions = {"gain": 3.0, "polling": 2.0, "clock": 1.0}

    def figure(witness: str, plane: Plane, value_wh: float, uncertainty_wh: float) -> EnergyFigure:
        return EnergyFigure(
            witness=witness,
            plane=plane,
            value_wh=value_wh,
            expanded_uncertainty_wh=uncertainty_wh,
            coverage_factor=2,
            contributions=contributions,
            reason=None,
        )

    energy = Energy(
        imported=(
            figure(charger, Plane.AC, ac_import * 1.004, 18.0),
            figure("analyzer", Plane.AC, ac_import, 4.0),
            figure("analyzer", Plane.DC, dc_import, 4.0),
            figure("van", Plane.DC, dc_import * 0.93, 25.0),
        ),
        exported=(
            figure(charger, Plane.AC, ac_export * 1.004, 20.0),
            figure("analyzer", Plane.AC, ac_export, 5.0),
            figure("analyzer", Plane.DC, dc_export, 5.0),
            figure("van", Plane.DC, dc_export * 1.002, 30.0),
        ),
    )
    lag = trace_pair("time_lag", Plane.AC, charger, "analyzer", value=0.4, unit="s", allowed=2.0, reason=None)
    record_id = "urn:v2gbench:record:synthetic"

    def statement(identity: Identity) -> WitnessStatement:
        return WitnessStatement(
            witness=identity.name,
            role=identity.role,
            record_id=record_id,
            material=Material.EMULATED,
            begin=begin,
            end=end,
            energy=energy.by_witness(identity.name),
        )

    witnesses = (
        keys.identity(charger, "charger"),
        keys.identity("analyzer", "power_meter"),
        keys.identity("van", "vehicle"),
    )
    delivered = (-7800.0, 6000.0)
    orders = tuple(
        GridOrder(
            order_id=f"order-{i + 1}",
            kind="load_increase" if power > 0 else "load_decrease",
            begin=utc_text(START_UTC_S + begin_s),
            end=utc_text(START_UTC_S + end_s),
            requested_power_w=power,
            delivered_power_w=delivered[i],
            delivered_energy_wh=delivered[i] * (end_s - begin_s) / 3600 * 0.996,
            measured_by="analyzer",
            reason=None,
        )
        for i, (begin_s, end_s, power) in enumerate(ORDERS)
    )
    record = UsageRecord(
        record_id=record_id,
        station=Station(name="emulated", sha256="5a" * 32, material=Material.EMULATED),
        session=Session(
            session_id="session-1",
            plan="v2g_session",
            begin=begin,
            end=end,
            outcome=Outcome.COMPLETED,
            outcome_reason=None,
            orders=orders,
        ),
        devices=tuple(
            Device(
                name=identity.name,
                role=identity.role,
                driver="twin",
                material=Material.EMULATED,
                manufacturer="Emulated",
                model="V2G 3P10",
                serial=f"EM-{i:04d}",
                firmware="1.0",
            )
            for i, identity in enumerate(witnesses)
        ),
        asset=(
            AssetField(
                name="SOC",
                value="575000",
                unit="1e-4 %",
                source="vehicle.soc_percent",
                data_type="battery_soc",
                channels=("monitoring", "alarms"),
                reason=None,
            ),
            AssetField(
                name="Lat",
                value=None,
                unit="deg min",
                source=None,
                data_type=None,
                channels=("monitoring",),
                reason="there is no positioning device in the station",
            ),
        ),
        energy=energy,
        reconciliation=reconcile(energy, (lag,)),
        battery_use=BatteryUse(
            witness="van",
            soc_begin_percent=55.0,
            soc_end_percent=soc_percent,
            throughput_ah=10.6,
            equivalent_full_cycles=0.048,
            pack_temperature_min_c=24.0,
            pack_temperature_max_c=31.0,
            soh_percent=None,
            reasons={"soh_percent": "the vehicle was not asked"},
        ),
        alarms=(
            Alarm(
                name="pack_temperature",
                utc=utc_text(START_UTC_S + 2800),
                text="above the stress threshold",
                value=31.0,
                threshold=30.0,
                unit="°C",
            ),
        ),
        limits=(
            LimitResult(
                name="pack_temperature_c",
                unit="°C",
                limit="pack_temperature_c <= 45",
                worst_value=31.0,
                margin=14.0,
                verdict=LimitVerdict.WARN,
                reason=None,
            ),
            LimitResult(
                name="power_w",
                unit="W",
                limit="-10000 <= power_w <= 10000",
                worst_value=-7812.0,
                margin=2188.0,
                verdict=LimitVerdict.PASS,
                reason=None,
            ),
        ),
        samples=Samples(count=seconds + 1, cycle_s=1.0, sha256=sha256),
        witnesses=tuple(sign_statement(statement(identity), identity) for identity in witnesses),
    )
    assert seconds < 3600 or record.reconciliation.odd_witness == "van"  # its import is 7 % short
    return sign_record(record, keys.identity("emulated", "station"))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_session(tmp_path_factory.mktemp("runs")).folder


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = """<script>alert(1)</script>'"&$$x$$\\[y\\]</title>--><img src=x onerror=alert(2)>"""
    return make_session(tmp_path_factory.mktemp("runs"), charger=name, seconds=700).folder


@pytest.fixture(scope="session")
def aborted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return make_session(root, seconds=1300, verdict="tripped", with_record=False).folder
