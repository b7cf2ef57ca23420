"""The emulated site: twins built from the station file, each face on a loopback port of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from bench.emulation import EmulatedSite, SiteOperator
from bench.operator import Means
from bench.rack import Rack
from bench.station import Station
from drivers.errors import NotOpenError
from drivers.service_loop import ServiceLoop
from twins.charger.charger import SessionState
from twins.clock import SteppedClock

Change = Callable[..., Station]
pytestmark = [pytest.mark.wire]


def test_parameters_of_the_station_file_reach_their_twins(emulated: Change) -> None:
    station = emulated(
        {
            "twins.van.soc_percent": 33.0,
            "twins.van.ambient_c": 5.0,
            "twins.charger.standby_w": 60.0,
            "twins.charger.serial": "AME-9",
        }
    )
    with ServiceLoop() as loop:
        site = EmulatedSite(station, loop, SteppedClock(0.0))

    assert site.van.pack.soc == pytest.approx(0.33)
    assert site.van.pack.temperature_c == 5.0
    with Rack.open(station, plan="parameters") as rack:
        assert rack.nameplates["charger"].serial == "AME-9"
        rack.cycle.wait(2.0)
        charger = rack.cycle.snapshot.charger
        assert charger is not None
        assert charger.ac_power.value == pytest.approx(60.0, abs=12.0)


def test_a_face_listens_on_loopback_only_while_the_site_is_open(emulated: Change) -> None:
    with ServiceLoop() as loop:
        site = EmulatedSite(emulated(), loop, SteppedClock(0.0))
        with pytest.raises(NotOpenError, match="face 'modbus' of twin 'charger' is not open; open the rack first"):
            site.address("charger", "modbus")
        with site:
            addresses = [
                site.address(*face) for face in (("charger", "modbus"), ("van", "elm327"), ("analyzer", "scpi"))
            ]
            port = int(addresses[0].rpartition(":")[2].split("/")[0])
            socket.create_connection(("127.0.0.1", port), timeout=2.0).close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=2.0)

    assert all("127.0.0.1" in address for address in addresses)
    assert len(set(addresses)) == 3


def test_a_closed_face_refuses_and_cannot_be_closed_twice(emulated: Change) -> None:
    with ServiceLoop() as loop, EmulatedSite(emulated(), loop, SteppedClock(0.0)) as site:
        site.close_face("van", "elm327")
        with pytest.raises(NotOpenError, match="is not open"):
            site.close_face("van", "elm327")
        with pytest.raises(NotOpenError):
            site.address("van", "elm327")


def test_each_twin_draws_its_errors_from_the_seed_and_its_own_name(emulated: Change) -> None:
    def gains(seed: int, **changes: Any) -> tuple[float, float]:
        with ServiceLoop() as loop:
            site = EmulatedSite(emulated({"seed": seed, **changes}), loop, SteppedClock(0.0))
        power = site.charger.meter._power
        assert power is not None
        return power.gain, site.van.bms.plane._current.gain

    assert gains(7) == gains(7)
    assert gains(7) != gains(8)
    # what else the station holds does not matter
    assert gains(7, **{"devices.meter": None, "twins.analyzer": None}) == gains(7)
    # the same draw, on a data sheet twice as wide
    assert gains(7, **{"twins.charger.errors": {"gain_percent": 2.0}})[0] - 1.0 == pytest.approx(
        2.0 * (gains(7)[0] - 1.0)
    )


def test_the_site_is_its_own_operator_and_says_so(emulated: Change) -> None:
    clock = SteppedClock(1_700_000_000.0)
    with ServiceLoop() as loop, EmulatedSite(emulated(), loop, clock) as site:
        operator = SiteOperator(site, clock)
        states = [site.charger.state]
        done = operator.plug_in()
        states.append(site.charger.state)
        operator.unplug()
        states.append(site.charger.state)

    assert states == [SessionState.AVAILABLE, SessionState.PLUGGED, SessionState.AVAILABLE]
    assert (done.by, done.means, done.utc_s) == ("site", Means.SITE, 1_700_000_000.0)
