"""Keywords: words of a plan become quantities, getters judge in session time, and every way out is the safe state."""

from __future__ import annotations

import inspect
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from bench.assets import asset
from bench.keywords import BenchLibrary, keywords
from bench.keywords.held_signals import HeldSignals
from bench.keywords.quantities import Duration, Energy, Power, Share, Temperature
from drivers.errors import ConfigError, InterlockTripped, LimitError, NotOpenError
from drivers.roles import ChargerState, ClampedBy
from ledgers.records import Direction, Plane
from reports.run import Run


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        (Power, "5 kW", 5000.0),
        (Power, "-5000 W", -5000.0),
        (Power, "-4.75kW", -4750.0),
        (Power, "\u22122 kW", -2000.0),  # the minus sign of a typesetter
        (Power, "1e3 W", 1000.0),
        (Energy, "2.2 kWh", 2200.0),
        (Share, "55 %", 55.0),
        (Share, "55%", 55.0),
        (Temperature, "30 °C", 30.0),
        (Temperature, "-5 degC", -5.0),
        (Duration, "10 min", 600.0),
        (Duration, "30 s", 30.0),
        (Duration, "250 ms", 0.25),
        (Duration, "1 h 30 min", 5400.0),
        (Duration, "0 s", 0.0),
    ],
)
def test_words_of_a_plan_become_quantities_in_the_base_unit(kind: type[Power], words: str, value: float) -> None:
    assert float(kind.convert(words)) == pytest.approx(value)
    assert kind.convert(words).is_given


@pytest.mark.parametrize(
    ("kind", "words", "complaint"),
    [
        (Power, "5000", "'5000' has no unit; write for example '5000 W' or '5 kW'"),
        (Power, "5 kw", "'kw' in '5 kw' is no unit of power here; write 'kW'"),
        (Power, "5 kWh", "'kWh' in '5 kWh' is no unit of power here; use one of W, kW"),
        (Power, "4,75 kW", "'4,75 kW' is no number with a unit; write for example '5000 W' or '5 kW'"),
        (Power, "a lot", "'a lot' is no number with a unit; write for example '5000 W' or '5 kW'"),
        (Power, "nan W", "'nan W' is no number with a unit; write for example '5000 W' or '5 kW'"),
        (Power, "1e999 W", "'1e999 W' is not finite; write for example '5000 W' or '5 kW'"),
        (Duration, "10", "'10' has no unit; write for example '30 s', '10 min' or '1 h 30 min'"),
        (Duration, "-5 s", "'-5 s' is negative, and time does not run backwards; write for example"),
        (Duration, "5 minutes", "'minutes' in '5 minutes' is no unit of duration here; use one of ms, s, min, h"),
        (Duration, "soon", "'soon' is no length of time; write for example '30 s', '10 min' or '1 h 30 min'"),
        (Duration, "", "'' is no length of time; write for example '30 s', '10 min' or '1 h 30 min'"),
        (Share, "55", "'55' has no unit; write for example '55 %'"),
        (Temperature, "300 K", "'K' in '300 K' is no unit of temperature here; use one of °C, degC"),
    ],
)
def test_a_wrong_word_is_refused_in_one_sentence_with_the_right_ones(
    kind: type[Power], words: str, complaint: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the sentence is compared below
        kind.convert(words)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


@given(st.floats(min_value=-1e6, max_value=1e6).map(lambda value: round(value, 3)))
def test_what_a_getter_prints_can_be_given_to_a_keyword(watts: float) -> None:
    assert math.isclose(float(Power.convert(str(Power(watts)))), watts, rel_tol=1e-9, abs_tol=1e-9)


def test_quantities_compare_with_numbers_and_their_own_kind_only() -> None:
    assert Power(-4750.0) < 0
    assert Power(5000.0) >= Power.convert("5 kW")
    assert Power(5000.0) == 5000
    assert Power(5000.0) != Energy(5000.0)
    with pytest.raises(TypeError):
        assert Power(1.0) < Energy(2.0)  # type: ignore[operator]  # the error is under test
    assert f"{Power(-4749.996):.6g}" == "-4750 W"
    assert str(Duration.not_given()) == "not given"


def test_each_keyword_has_tags_a_docstring_and_a_type_for_each_argument() -> None:
    library = keywords()
    names = library.get_keyword_names()
    assert {"open_station", "set_charger_power", "wait", "certify_session", "get_meter_power"} <= set(names)
    for name in names:
        method = getattr(library, name)
        assert method.robot_tags, name
        assert inspect.getdoc(method), name
        signature = inspect.signature(method)
        untyped = [
            word for word, argument in signature.parameters.items() if argument.annotation is inspect.Parameter.empty
        ]
        assert untyped == [], name
        assert signature.return_annotation is not inspect.Signature.empty, name


def test_an_unknown_keyword_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="BenchLibrary has no keyword 'set_chargr_power'"):
        keywords().set_chargr_power  # noqa: B018  # the look-up itself is under test


def test_a_keyword_before_open_station_says_how_to_begin() -> None:
    with pytest.raises(NotOpenError, match="no station is open; begin with 'Open Station'"):
        keywords().plug_in_vehicle()


def test_the_generated_documents_are_those_of_the_code() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class _Stopped(Exception):
    pass


def _raise_stopped(_number: int, _frame: object) -> None:
    raise _Stopped


@pytest.fixture
def stopping_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _raise_stopped)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("stopping_signal")
class TestHeldSignals:
    def test_a_signal_waits_for_release(self) -> None:
        done = False
        with HeldSignals() as held:
            os.kill(os.getpid(), signal.SIGTERM)
            done = True
            with pytest.raises(_Stopped):
                held.release()
        assert done
        assert signal.getsignal(signal.SIGTERM) is _raise_stopped

    def test_a_signal_is_handed_over_at_the_end_of_the_block_even_when_that_failed(self) -> None:
        with pytest.raises(_Stopped), HeldSignals():  # noqa: PT012  # both happen in the block
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("the exchange broke")
        assert signal.getsignal(signal.SIGTERM) is _raise_stopped


def write_station(folder: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """The shipped emulated station with changes by dotted path; runs go below `folder`."""
    yaml = YAML(typ="safe", pure=True)
    document = yaml.load(asset("stations/emulated.yaml").read_text(encoding="utf-8"))
    for path, value in {"runs": str(folder / "runs"), **(changes or {})}.items():
        *parents, last = path.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value
    written = folder / "station.yaml"
    with written.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return written


@pytest.fixture
def library() -> Iterator[BenchLibrary]:
    made = keywords()
    yield made
    made.bench.close(failure="the test is over")


@pytest.mark.wire
@pytest.mark.slow
class TestOnARack:
    def test_getters_judge_fresh_readings_and_retry_in_session_time(
        self, library: BenchLibrary, tmp_path: Path
    ) -> None:
        folder = Path(library.open_station(str(write_station(tmp_path))))
        cycle = library.bench.opened.cycle
        library.every_device_should_answer()
        assert 54.0 <= library.get_vehicle_state_of_charge() <= 56.0
        assert float(library.get_vehicle_state_of_health()) == pytest.approx(97.0, abs=1.0)
        assert 20.0 <= library.get_pack_temperature() <= 24.0
        with pytest.raises(ConfigError, match="say both how and with what charger power is to be compared"):
            library.get_charger_power("<")
        readings = library.get_all_readings()
        assert readings["charger.ac_power"].endswith(" W")

        library.charger_state_should_be(ChargerState.AVAILABLE)
        with pytest.raises(AssertionError, match="the charger is available, not charging"):
            library.charger_state_should_be(ChargerState.CHARGING)

        library.plug_in_vehicle()
        library.start_session(Duration.convert("10 min"))
        accepted = library.set_charger_power(Power.convert("-5 kW"), Duration.convert("20 s"))
        assert accepted == -5000.0
        library.set_point_should_be_clamped_by(ClampedBy.NOBODY)
        assert float(library.get_charger_power("<", Power(-4750.0))) == pytest.approx(-5000.0, abs=150.0)
        assert library.get_meter_power(Plane.AC, "<=", Power(-4750.0)) < 0.0
        assert library.get_meter_power(Plane.DC) < library.get_meter_power(Plane.AC), "the van gives the losses, too"

        before_s = cycle.now_s
        with pytest.raises(AssertionError, match=r"meter ac power is -4.* W, not > 0 W, still so after 7 s of session"):
            library.get_meter_power(Plane.AC, ">", Power(0.0), Duration(7.0))
        assert cycle.now_s - before_s == pytest.approx(7.0, abs=1.0)

        before_s = cycle.now_s
        library.wait(Duration.convert("6 min"))
        assert cycle.now_s - before_s == pytest.approx(360.0)
        assert float(library.get_meter_energy(Plane.AC, Direction.EXPORT)) == pytest.approx(5000.0 * 0.1, rel=0.1)
        assert float(library.get_charger_energy(Direction.EXPORT)) == pytest.approx(5000.0 * 0.1, rel=0.1)
        assert library.get_meter_energy(Plane.AC, Direction.IMPORT) < 10.0

        library.set_point_should_be_refused(Power.convert("12 kW"), ClampedBy.LIMIT)
        with pytest.raises(LimitError, match="a set-point of 12000 W is outside the station's limit"):
            library.set_charger_power(Power.convert("12 kW"))
        with pytest.raises(AssertionError, match="-4000 W was not refused"):
            library.set_point_should_be_refused(Power.convert("-4 kW"), ClampedBy.VEHICLE)
        library.limits_should_hold("power_w", "soc_percent")
        with pytest.raises(ConfigError, match="the station has no limit 'pover_w'; it has power_w, "):
            library.limits_should_hold("pover_w")

        # The plan ends here, with 4 kW still flowing.
        run = library.bench.close(failure="the test failed")
        assert run is not None
        with Run.open(folder) as recorded:
            assert recorded.is_finished
            assert recorded.verdict == "aborted"
            assert abs(recorded.series("charger.ac_power").value[-1]) < 200.0
        assert run.certified is not None
        assert run.certified.certified.verdict == "FAIL"
        assert run.certified.certified.reasons[0] == "the test failed"

    def test_orders_are_announced_followed_and_refused_when_they_do_not_fit(
        self, library: BenchLibrary, tmp_path: Path
    ) -> None:
        from bench.keywords.session import OrderKind

        library.open_station(str(write_station(tmp_path)))
        with pytest.raises(
            ConfigError, match="a session starts once the vehicle is plugged in, and only once; the order"
        ):
            library.start_session(Duration(600.0))
        library.plug_in_vehicle()
        with pytest.raises(ConfigError, match="the vehicle is plugged in already"):
            library.plug_in_vehicle()
        with pytest.raises(ConfigError, match="orders are announced while the session runs"):
            library.announce_grid_order(
                "early", OrderKind.LOAD_DECREASE, Power(1000.0), starts_in=Duration(60.0), lasts=Duration(60.0)
            )
        with pytest.raises(ConfigError, match="a session of 0 s has no schedule"):
            library.start_session(Duration(0.0))
        with pytest.raises(ConfigError, match="a session of 608400 s is longer than the 604800 s that a baseline may"):
            library.start_session(Duration.convert("169 h"))
        library.start_session(Duration(600.0), Power(2000.0))
        library.announce_grid_order(
            "one", OrderKind.LOAD_DECREASE, Power(6000.0), starts_in=Duration(60.0), lasts=Duration(120.0)
        )
        for order_id, starts_s, lasts_s, complaint in (
            ("two", 100.0, 60.0, "orders 'one' and 'two' overlap"),
            ("one", 300.0, 60.0, "two orders have the same order_id"),
            ("late", 500.0, 101.0, "order 'late' ends at 601 s, after the session's 600 s"),
            ("no spaces", 300.0, 60.0, "order 'no spaces': order_id: "),
            ("none", 300.0, 0.0, "order 'none': duration_s: "),
        ):
            with pytest.raises(ConfigError) as caught:
                library.announce_grid_order(
                    order_id,
                    OrderKind.LOAD_DECREASE,
                    Power(1000.0),
                    starts_in=Duration(starts_s),
                    lasts=Duration(lasts_s),
                )
            assert complaint in str(caught.value)

        library.follow_grid_orders(Duration(50.0))
        assert float(library.get_charger_power()) == pytest.approx(2000.0, abs=100.0)
        library.follow_grid_orders(Duration(60.0))
        assert float(library.get_charger_power()) == pytest.approx(-4000.0, abs=100.0)
        library.set_charger_power(Power(-1000.0), Duration(20.0))  # by hand, off the schedule
        library.follow_grid_orders(Duration(30.0))
        assert float(library.get_charger_power()) == pytest.approx(-4000.0, abs=100.0)
        with pytest.raises(ConfigError, match="energy is being transferred; say 'Stop Session' before"):
            library.unplug_vehicle()
        library.follow_grid_orders()
        assert float(library.get_charger_power()) == pytest.approx(2000.0, abs=100.0)
        library.stop_session()
        library.unplug_vehicle()
        with pytest.raises(ConfigError, match="the session is not certified yet; say 'Certify Session' first"):
            library.witnesses_should_agree()

    def test_a_clamp_names_who_did_it(self, library: BenchLibrary, tmp_path: Path) -> None:
        almost_full = {"twins.van.soc_percent": 95, "limits.soc_percent": {"min": 5, "max": 100}}
        library.open_station(str(write_station(tmp_path, almost_full)))
        library.plug_in_vehicle()
        library.start_session(Duration(600.0))
        with pytest.raises(NotOpenError, match="no set-point was asked for yet"):
            library.set_point_should_be_clamped_by(ClampedBy.VEHICLE)
        library.wait(Duration(20.0))
        accepted = library.set_charger_power(Power(10_000.0), Duration(20.0))
        assert 3000.0 < accepted < 8000.0, "a battery at 95 % takes less than the charger can give"
        library.set_point_should_be_clamped_by(ClampedBy.VEHICLE)
        with pytest.raises(AssertionError, match=r"10000 W became \d+ W, clamped by vehicle and not by nobody"):
            library.set_point_should_be_clamped_by(ClampedBy.NOBODY)

    def test_after_a_trip_nothing_is_read_and_the_safe_state_can_be_shown(
        self, library: BenchLibrary, tmp_path: Path
    ) -> None:
        library.open_station(str(write_station(tmp_path, {"limits.pack_temperature_c": {"max": 22.5}})))
        with pytest.raises(InterlockTripped, match=r"van\.pack_temperature_\d is 23 degC, outside"):
            library.wait(Duration(600.0))
        with pytest.raises(InterlockTripped, match="nothing is read after a limit tripped"):
            library.get_charger_power()
        library.limit_should_have_tripped("pack_temperature_c")
        with pytest.raises(AssertionError, match="power_w did not trip, but pack_temperature_c did"):
            library.limit_should_have_tripped("power_w")
        with pytest.raises(AssertionError, match="limits do not hold: pack_temperature_c"):
            library.limits_should_hold()
