"""Drivers found by the words of a station file, and the keys that reach them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import BaseModel, ConfigDict, Field

from bench.devices import config_type, device_config, driver_words, find_driver
from bench.station import Station
from drivers.charger.modbus import ModbusCharger
from drivers.errors import ConfigError

Change = Callable[..., Station]


def faces(twin: str, face: str) -> str:
    return f"tcp://127.0.0.1:1?{twin}={face}"


def test_the_drivers_that_come_with_the_bench_are_found_by_role_and_word() -> None:
    assert set(driver_words("charger")) >= {"modbus", "ocpp"}
    assert set(driver_words("vehicle")) >= {"elm327", "uds"}
    assert set(driver_words("power_meter")) >= {"yokogawa_wt"}
    assert find_driver("charger", "modbus") is ModbusCharger


@pytest.mark.parametrize(
    ("role", "word"), [(role, word) for role in ("charger", "vehicle", "power_meter") for word in driver_words(role)]
)
def test_every_driver_says_which_keys_it_takes(role: str, word: str) -> None:
    config = config_type(find_driver(role, word))

    assert issubclass(config, BaseModel)
    assert config.model_config.get("frozen")
    assert "at" in config.model_fields or word == "ocpp"


def test_an_unknown_driver_is_one_sentence_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no driver 'modbuss' for role charger; installed are: modbus, ocpp"):
        find_driver("charger", "modbuss")


def test_a_driver_gets_the_keys_that_it_knows_and_the_address_of_the_face(emulated: Change) -> None:
    class Config(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        at: str
        reply_s: float

    found = device_config(emulated({"devices.charger.reply_s": 1.5}), "charger", Config, faces)

    assert found == Config(at="tcp://127.0.0.1:1?charger=modbus", reply_s=1.5)


def test_a_value_that_the_driver_refuses_is_told_with_its_place_in_the_station_file(emulated: Change) -> None:
    class Picky(BaseModel):
        at: str
        reply_s: float = Field(le=1.0)

    with pytest.raises(ConfigError, match=r"emulated\.yaml: devices\.charger\.reply_s: .* correct it there"):
        device_config(emulated({"devices.charger.reply_s": 1.5}), "charger", Picky, faces)
