"""The cycle in stepped time, on a whole emulated rack: guard, trip, refusals, lost devices, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.rack import Rack
from bench.session import SessionPlan, SessionRunner
from bench.station import Station
from drivers.errors import BenchError, ConfigError, EnergyStopped, InterlockTripped, LimitError, NotOpenError
from drivers.roles import ChargerState, ClampedBy
from reports.run import Run

Change = Callable[..., Station]
pytestmark = [pytest.mark.wire]

CHARGE = SessionPlan(name="charge", duration_s=120, baseline_w=5000.0)


def started(rack: Rack) -> SessionRunner:
    runner = SessionRunner(rack, CHARGE)
    runner.plug_in()
    runner.start()
    return runner


def test_session_time_moves_only_through_the_cycle(emulated: Change) -> None:
    with Rack.open(emulated(), plan="time") as rack:
        before_s = rack.cycle.now_s
        rack.cycle.wait(10.0)

        assert rack.cycle.now_s == pytest.approx(before_s + 10.0)
        assert rack.clock.utc_s == pytest.approx(emulated().start_utc_s + rack.cycle.now_s)


def test_a_set_point_outside_the_station_limits_is_refused_before_it_is_sent(emulated: Change) -> None:
    with Rack.open(emulated(), plan="limit") as rack:
        started(rack)
        with pytest.raises(LimitError, match=r"12000 W is outside .* <= 10500"):
            rack.cycle.set_power(12_000.0)
        rack.cycle.wait(2.0)
    with Run.open(rack.run_folder) as run:
        assert run.set_points() == ()


def test_a_set_point_beyond_the_chargers_rating_is_refused_and_the_cycle_goes_on(emulated: Change) -> None:
    station = emulated({"limits.power_w": {"min": -20_000, "max": 20_000}})
    with Rack.open(station, plan="rating") as rack:
        started(rack)
        rack.cycle.set_power(3000.0)
        with pytest.raises(LimitError, match=r"12000 W is outside the charger's rating"):
            rack.cycle.set_power(12_000.0)
        rack.cycle.wait(10.0)
        assert rack.cycle.snapshot.charger is not None
        assert rack.cycle.snapshot.charger.ac_power.value == pytest.approx(3000.0, rel=0.05)


def test_a_limit_that_trips_brings_zero_watts_within_the_cycle_and_ends_the_session(emulated: Change) -> None:
    station = emulated({"limits.soc_percent": {"min": 10.0, "max": 55.2}})
    with Rack.open(station, plan="trip") as rack:
        started(rack)
        rack.cycle.set_power(10_000.0)
        with pytest.raises(
            InterlockTripped, match=r"van\.soc is 55\.\d+ %, outside 10 <= soc_percent <= 55\.2 %; the safe"
        ):
            rack.cycle.wait(3600.0)
        trip_s = rack.cycle.now_s
        assert rack.emulated is not None
        assert rack.emulated.charger.setpoint_w == 0.0
        with pytest.raises(InterlockTripped):
            rack.cycle.set_power(1000.0)
        rack.cycle.settle(30.0)
        assert rack.emulated.charger.dc_power_w == 0.0
        rack.conclude("tripped", "soc")
    with Run.open(rack.run_folder) as run:
        assert run.verdict == "tripped"
        (tripped,) = run.events("limit_tripped")
        assert tripped.content["limit"] == "soc_percent"
        assert tripped.content["safe_state_confirmed"] is True
        assert run.cycles()[-1][1] > trip_s  # it went on recording


def test_a_guarded_quantity_that_nobody_measures_any_more_trips(emulated: Change) -> None:
    with Rack.open(emulated(), plan="blind") as rack:
        started(rack)
        assert rack.emulated is not None
        rack.emulated.close_face("van", "elm327")
        with pytest.raises(InterlockTripped, match="was not measured for"):
            rack.cycle.wait(300.0)
        rack.conclude("tripped")
    with Run.open(rack.run_folder) as run:
        assert any("van" in event.source for event in run.events("device_silent"))


def test_a_charger_that_hangs_up_trips_and_its_own_watchdog_ends_the_power(emulated: Change) -> None:
    with Rack.open(emulated(), plan="lost") as rack:
        started(rack)
        rack.cycle.set_power(8000.0)
        rack.cycle.wait(10.0)
        assert rack.emulated is not None
        charger = rack.emulated.charger
        assert charger.dc_power_w > 7000.0
        rack.emulated.close_face("charger", "modbus")
        with pytest.raises(InterlockTripped, match="own watchdog ends the power"):
            rack.cycle.wait(60.0)
        rack.cycle.settle(30.0)  # session time passes, so the twin's watchdog acts
        assert charger.watchdog_tripped
        assert charger.dc_power_w == 0.0
        rack.conclude("tripped")


def test_a_vehicle_limit_reduces_the_set_point_and_is_named(emulated: Change) -> None:
    with Rack.open(emulated({"twins.van.soc_percent": 96.0}), plan="clamp") as rack:
        started(rack)
        result = rack.cycle.set_power(9000.0)

        assert result.clamped_by is ClampedBy.VEHICLE
        assert 0.0 < result.accepted_w < 9000.0
        rack.cycle.wait(1.0)
    with Run.open(rack.run_folder) as run:
        (event,) = run.events("set_point_reduced")
        assert event.content["clamped_by"] == "vehicle"


def test_starting_without_a_vehicle_says_what_did_not_happen(emulated: Change) -> None:
    with (
        Rack.open(emulated(), plan="no-vehicle") as rack,
        pytest.raises(BenchError, match="cannot do that in its present state"),
    ):
        rack.cycle.start()


def test_a_wait_for_something_that_never_comes_is_bounded_and_named(emulated: Change) -> None:
    with (
        Rack.open(emulated(), plan="never") as rack,
        pytest.raises(BenchError, match="a fault did not happen within 20 s"),
    ):
        rack.cycle.wait_until(
            lambda snapshot: snapshot.charger is not None and snapshot.charger.state is ChargerState.FAULTED,
            timeout_s=20.0,
            what="a fault",
        )


def test_an_exception_in_the_plan_passes_through_the_safe_state_and_is_written_down(emulated: Change) -> None:
    rack = Rack.open(emulated(), plan="crash")

    def plan() -> None:
        with rack:
            started(rack)
            rack.cycle.set_power(-6000.0)
            rack.cycle.wait(10.0)
            raise ZeroDivisionError("plan")

    with pytest.raises(ZeroDivisionError):
        plan()
    assert rack.emulated is not None
    assert rack.emulated.charger.dc_power_w == 0.0
    with Run.open(rack.run_folder) as run:
        assert run.verdict == "aborted"
        assert "ZeroDivisionError: plan" in str(run.manifest["reason"])
        power = run.series("charger.ac_power")
        assert abs(power.value[-1]) < 200.0  # recorded down to rest


def test_a_closed_rack_refuses_use_in_one_sentence(emulated: Change) -> None:
    rack = Rack.open(emulated(), plan="closed")
    with pytest.raises(NotOpenError, match="open it with"):
        rack.cycle.wait(1.0)


def test_the_watchdog_is_armed_and_read_back_before_anything_runs(emulated: Change) -> None:
    with Rack.open(emulated({"devices.charger.watchdog_s": 7}), plan="watchdog") as rack:
        assert rack.watchdog_armed_s == 7.0
        assert rack.emulated is not None
        assert rack.emulated.charger.revert_timeout_s == 7.0
    with Run.open(rack.run_folder) as run:
        (armed,) = run.events("watchdog_armed")
        assert armed.content == {"kind": "device", "timeout_s": 7.0}


def test_a_taken_port_of_the_central_system_is_one_sentence(emulated: Change) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        station = emulated({"csms.listen": f"127.0.0.1:{port}"})
        with pytest.raises(ConfigError, match=f"{port}"), Rack.open(station, plan="taken"):
            pass


def test_two_racks_at_once_do_not_collide(emulated: Change) -> None:
    with Rack.open(emulated(), plan="one") as one, Rack.open(emulated({"seed": 8}), plan="two") as two:
        one.cycle.wait(3.0)
        two.cycle.wait(3.0)

        assert one.run_folder != two.run_folder


def test_the_vehicle_over_can_and_uds_serves_the_same_rack(emulated: Change) -> None:
    station = emulated({"devices.van.driver": "uds", "devices.van.at": "twin:van/can"})
    with Rack.open(station, plan="uds") as rack:
        started(rack)
        rack.cycle.wait(15.0)
        vehicle = rack.cycle.snapshot.vehicle

        assert vehicle is not None
        assert vehicle.soc.is_good
        assert vehicle.plug_state.value == 2.0


def test_the_charger_over_ocpp_alone_charges_and_discharges(emulated: Change) -> None:
    station = emulated(
        {"devices.charger": {"role": "charger", "driver": "ocpp", "at": "twin:charger/ocpp", "watchdog_s": 30}}
    )
    with Rack.open(station, plan="ocpp") as rack:
        started(rack)
        result = rack.cycle.set_power(-5000.0)
        rack.cycle.wait(20.0)
        charger = rack.cycle.snapshot.charger

        assert result.accepted
        assert charger is not None
        assert charger.state is ChargerState.DISCHARGING
        assert charger.ac_power.value == pytest.approx(-5000.0, rel=0.05)


def test_energy_that_must_stop_goes_to_zero_and_the_plan_is_told_once_so_that_it_can_stop_in_order(
    emulated: Change,
) -> None:
    with Rack.open(emulated(), plan="unpaid") as rack:
        runner = started(rack)
        rack.cycle.set_power(5000.0)
        rack.cycle.wait(10.0)

        def stop_it(_index: int, _snapshot: object, now_s: float) -> None:
            if now_s > 30.0:
                rack.cycle.stop_energy(f"payment: nothing came, {now_s:g}")

        rack.cycle.listeners.append(stop_it)
        with pytest.raises(EnergyStopped, match="payment: nothing came") as told:
            rack.cycle.wait(3600.0)
        assert 30.0 < rack.cycle.now_s < 33.0
        with pytest.raises(EnergyStopped):
            rack.cycle.set_power(100.0)
        rack.cycle.wait(5.0)
        assert rack.emulated is not None
        assert rack.emulated.charger.dc_power_w == 0.0
        runner.stop()
        runner.unplug()
        log = runner.finish()
    assert (log.tripped, log.aborted) == ("", str(told.value))
    assert rack.cycle.trip is None
    with Run.open(rack.run_folder) as run:
        assert run.verdict == "aborted"
        assert [event.content["sentence"] for event in run.events("energy_stopped")] == [str(told.value)]


def test_before_transfer_and_before_each_set_point_a_permit_is_asked_and_can_refuse(emulated: Change) -> None:
    asked: list[float] = []

    def permit(power_w: float) -> None:
        asked.append(power_w)
        if power_w < 0.0:
            rack.cycle.stop_energy("payment: nobody buys")

    with Rack.open(emulated(), plan="permit") as rack:
        rack.cycle.permit = permit
        started(rack)
        rack.cycle.set_power(3000.0)
        with pytest.raises(EnergyStopped, match="nobody buys"):
            rack.cycle.set_power(-3000.0)
        rack.cycle.wait(10.0)
        assert asked == [0.0, 3000.0, -3000.0]
        assert rack.emulated is not None
        assert rack.emulated.charger.dc_power_w == 0.0
    with Run.open(rack.run_folder) as run:
        assert [point.requested_w for point in run.set_points()] == [3000.0, 0.0]
