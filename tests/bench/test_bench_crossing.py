"""Values that cross from devices to records: what is not good is left out, never filled in."""

from __future__ import annotations

import math

import pytest

from bench.crossing import ASSET_QUANTITIES, asset_values, device_entry, good, monitoring_document
from drivers.readings import Quality, Reading, missing
from drivers.roles import Nameplate, VehicleReadings
from ledgers.asset_fields import build_asset
from ledgers.records import Material


def reading(name: str, value: float, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(value, "1", 1.0, 1_700_000_001.0, f"van.{name}", quality)


def vehicle(**values: float) -> VehicleReadings:
    """Readings with these values; every other one has no data. `t1` is the first pack sensor."""
    names = [name for name in VehicleReadings.__dataclass_fields__ if name != "pack_temperatures"]
    sensors = tuple(
        reading(f"t{n}", values[f"t{n}"]) if f"t{n}" in values else missing("1", 1.0, 1.0, f"van.t{n}")
        for n in range(1, 5)
    )
    found = {
        name: reading(name, values[name]) if name in values else missing("1", 1.0, 1.0, f"van.{name}") for name in names
    }
    return VehicleReadings(pack_temperatures=sensors, **found)  # type: ignore[arg-type]  # by name


def test_only_good_values_cross() -> None:
    assert good(reading("soc", 55.0)) == 55.0
    assert good(reading("soc", math.nan)) is None
    for quality in (Quality.STALE, Quality.NO_DATA, Quality.OVER_RANGE, Quality.ESTIMATED):
        assert good(reading("soc", 55.0, quality)) is None


def test_no_vehicle_gives_no_asset_values_and_a_silent_one_only_nulls() -> None:
    assert asset_values(None) == {}
    values = asset_values(vehicle())
    assert set(values.values()) == {None}
    assert len(values) == len(ASSET_QUANTITIES) + 4


def test_every_asset_quantity_of_the_vehicle_is_one_that_the_asset_knows() -> None:
    filled = dict.fromkeys(ASSET_QUANTITIES.values(), 1.0)
    values = asset_values(vehicle(**filled, t1=20.0, t2=21.0, t3=22.0, t4=23.0))

    assert (values["vehicle.pack_temperature_1_c"], values["vehicle.pack_temperature_4_c"]) == (20.0, 23.0)
    with_values = [field for field in build_asset(values, {}) if field.value is not None]
    assert set(values) >= {field.source for field in with_values}
    assert len(with_values) >= len(values) - 2


def test_a_monitoring_document_leaves_out_what_is_not_known() -> None:
    document = monitoring_document("van", 1_700_000_001.0, vehicle(plug_state=2.0, soc=55.00004, t2=31.04), None)

    assert document == {
        "vehicle_id": "van",
        "utc_s": 1_700_000_001.0,
        "source": "charging_station",
        "plug_state": 2,
        "soc_percent": 55.0,
        "pack_temperatures_c": [31.0],
    }


def test_a_monitoring_document_rounds_and_carries_the_chargers_power() -> None:
    power = Reading(-6999.96, "W", 1.0, 1.0, "charger.ac_power")
    document = monitoring_document(
        "van",
        1.23456,
        vehicle(pack_current=-17.81234, cell_min=3.81239, cell_average=3.82, ambient_temperature=33.04),
        power,
    )

    assert document["power_w"] == -7000.0
    assert document["current_a"] == -17.812
    assert document["cell_voltage_min_v"] == 3.8124
    assert document["cell_voltage_v"] == 3.82
    assert document["ambient_c"] == 33.0
    assert document["utc_s"] == 1.235
    assert "cell_voltage_max_v" not in document


def test_power_without_a_value_is_left_out() -> None:
    assert "power_w" not in monitoring_document("van", 1.0, vehicle(), missing("W", 1.0, 1.0, "charger.ac_power"))


@pytest.mark.parametrize(("metal", "material"), [(True, Material.MEASURED), (False, Material.EMULATED)])
def test_a_device_says_what_it_is_made_of(metal: bool, material: Material) -> None:
    nameplate = Nameplate("AME", "V2G 3P10", "0001", "1.2")
    entry = device_entry("charger", "charger", "modbus", metal=metal, nameplate=nameplate)

    assert entry.material is material
    assert (entry.manufacturer, entry.model, entry.serial, entry.firmware) == ("AME", "V2G 3P10", "0001", "1.2")
