"""What witnesses say, from small recorded runs with numbers that can be checked by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bench.witnesses import (
    Window,
    WitnessSheet,
    ampere_hours,
    energies,
    energy_of,
    extremes,
    first_and_last,
    mean_power,
    time_lags,
)
from drivers.readings import Quality
from ledgers.records import Agreement, Direction, EnergyFigure, Plane, reconcile
from reports.run import ReadingRow, Run, RunWriter
from twins.charger.charger import POWER_ACCURACY as CHARGER_ACCURACY
from twins.instrument.power_analyzer import AC_POWER_ACCURACY, DC_POWER_ACCURACY
from twins.measurement import Channel
from twins.pack.bms import CURRENT_ACCURACY, VOLTAGE_ACCURACY

Floats = npt.NDArray[np.float64]
Point = tuple[float, float] | tuple[float, float, Quality]
UTC_S = 1_700_000_000.0

POLLED = WitnessSheet(
    witness="bms",
    plane=Plane.DC,
    gain_percent=0.0,
    offset_w=0.0,
    resolution_wh=0.0,
    poll_s=10.0,
    clock_s=0.0,
    power="bms.power",
)
COUNTED = WitnessSheet(
    witness="meter",
    plane=Plane.AC,
    gain_percent=0.0,
    offset_w=0.0,
    resolution_wh=0.0,
    poll_s=1.0,
    clock_s=0.0,
    power="meter.power",
    import_energy="meter.in",
    export_energy="meter.out",
)


def recorded(root: Path, sources: Mapping[str, Sequence[Point]]) -> Run:
    """A run folder that holds these readings: seconds, value, and its quality where that is not good."""
    rows: list[ReadingRow] = [
        (point[1], "1", point[0], UTC_S + point[0], name, str(point[2]) if len(point) > 2 else "good")
        for name, points in sources.items()
        for point in points
    ]
    with RunWriter.create(root, plan="t", station="t", stepped=True, manifest={}, now_s=lambda: 0.0) as writer:
        writer.record_cycle(0, 0.0, UTC_S, rows, None, ())
        writer.close(verdict="pass")
    return Run.open(writer.folder)


def both(run: Run, sheet: WitnessSheet, window: Window) -> tuple[EnergyFigure, EnergyFigure]:
    with run:
        figures = energy_of(run, sheet, window)
    return figures[Direction.IMPORT], figures[Direction.EXPORT]


# Contributions, one at a time -------------------------------------------------------------------------------------


def test_a_register_counts_between_its_first_and_last_reading_of_the_session(tmp_path: Path) -> None:
    run = recorded(
        tmp_path,
        {
            "meter.power": [(at_s, 3600.0) for at_s in range(11)],
            "meter.in": [(float(at_s), 100.0 + at_s) for at_s in range(-5, 20)],
            "meter.out": [(float(at_s), 7.0) for at_s in range(-5, 20)],
        },
    )
    imported, exported = both(run, replace(COUNTED, resolution_wh=1.0), Window(0.0, 10.0))

    assert imported.value_wh == 10.0
    assert imported.contributions == {"resolution": 1.0, "gain": 0.0, "offset": 0.0, "clock": 0.0}
    assert imported.expanded_uncertainty_wh == 1.0
    assert imported.coverage_factor == 2
    assert exported.value_wh == 0.0


def test_gain_is_taken_on_the_energy_and_offset_on_the_time_in_that_direction(tmp_path: Path) -> None:
    # 100 s of import at 3600 W (100 Wh), then 100 s of export at 7200 W (200 Wh)
    powers = [(float(at_s), 3600.0 if at_s <= 100 else -7200.0) for at_s in range(201)]
    run = recorded(
        tmp_path,
        {
            "meter.power": powers,
            "meter.in": [(at_s, min(at_s, 100.0)) for at_s, _ in powers],
            "meter.out": [(at_s, 2.0 * max(0.0, at_s - 100.0)) for at_s, _ in powers],
        },
    )
    imported, exported = both(run, replace(COUNTED, gain_percent=1.5, offset_w=36.0), Window(0.0, 200.0))

    assert imported.contributions == pytest.approx({"resolution": 0.0, "gain": 1.5, "offset": 1.0, "clock": 0.0})
    assert exported.contributions == pytest.approx({"resolution": 0.0, "gain": 3.0, "offset": 1.0, "clock": 0.0})
    assert imported.expanded_uncertainty_wh == pytest.approx(math.hypot(1.5, 1.0), abs=5e-4)


def test_the_clock_counts_with_the_power_that_stands_at_the_ends(tmp_path: Path) -> None:
    points = [(float(at_s), 3600.0 if at_s < 50 else -4800.0) for at_s in range(101)]
    run = recorded(tmp_path, {"bms.power": points})
    imported, exported = both(run, replace(POLLED, poll_s=1.0, clock_s=2.0), Window(0.0, 100.0))

    assert imported.contributions["clock"] == pytest.approx(2.0 * 6000.0 / 3600.0, abs=5e-4)  # hypot(3600, 4800)
    assert exported.contributions["clock"] == imported.contributions["clock"]


def test_polled_power_is_trapezoids_and_half_a_step_either_way(tmp_path: Path) -> None:
    # 0 -> 3600 W -> 3600 W -> 0, polled each 10 s: 36 kWs + half of 36 kWs twice = 72 kWs
    run = recorded(tmp_path, {"bms.power": [(0.0, 0.0), (10.0, 3600.0), (20.0, 3600.0), (30.0, 0.0)]})
    imported, exported = both(run, POLLED, Window(0.0, 30.0))

    assert imported.value_wh == 20.0
    # two intervals with a half-width of 5 Wh each: 2 sqrt(2 * 25 / 3)
    assert imported.contributions["polling"] == pytest.approx(8.165, abs=5e-4)
    assert exported.value_wh == 0.0
    assert exported.expanded_uncertainty_wh == 0.0


def test_a_change_of_sign_splits_the_energy_and_burdens_both_directions(tmp_path: Path) -> None:
    run = recorded(tmp_path, {"bms.power": [(0.0, 3600.0), (10.0, 3600.0), (20.0, -3600.0), (30.0, -3600.0)]})
    imported, exported = both(run, POLLED, Window(0.0, 30.0))

    # 10 s at 3600 W is 10 Wh, and half of the next interval belongs to either side
    assert (imported.value_wh, exported.value_wh) == (15.0, 15.0)
    # half-width |-3600 - 3600| * 10 s / 2 = 10 Wh in each: 2 sqrt(100 / 3)
    assert imported.contributions["polling"] == pytest.approx(11.547, abs=5e-4)
    assert exported.contributions["polling"] == imported.contributions["polling"]


def test_before_the_first_and_after_the_last_poll_power_lies_between_that_and_nothing(tmp_path: Path) -> None:
    run = recorded(tmp_path, {"bms.power": [(4.0, 1800.0), (14.0, 1800.0)]})
    imported, _ = both(run, POLLED, Window(0.0, 20.0))

    # 10 s at 1800 W: 5 Wh; edges of 4 s and 6 s: half of 2 Wh and half of 3 Wh
    assert imported.value_wh == 7.5
    assert imported.contributions["polling"] == pytest.approx(2.0 * math.sqrt((1.0 + 2.25) / 3.0), abs=5e-4)


def test_readings_outside_of_the_session_do_not_count(tmp_path: Path) -> None:
    run = recorded(tmp_path, {"bms.power": [(float(at_s), 3600.0) for at_s in range(0, 101, 10)]})
    imported, _ = both(run, POLLED, Window(30.0, 60.0))

    assert imported.value_wh == 30.0
    assert imported.contributions["polling"] == 0.0


def test_a_bms_is_the_product_of_its_voltage_and_current_at_common_times(tmp_path: Path) -> None:
    sheet = replace(POLLED, power="bms.voltage", current="bms.current")
    run = recorded(
        tmp_path,
        {
            "bms.voltage": [(0.0, 400.0), (10.0, 400.0), (20.0, 380.0), (25.0, 10_000.0), (30.0, 400.0)],
            "bms.current": [(0.0, 9.0), (10.0, 9.0), (20.0, math.nan, Quality.NO_DATA), (30.0, 9.0)],
        },
    )
    imported, exported = both(run, sheet, Window(0.0, 30.0))

    assert imported.value_wh == 30.0  # 3600 W at 0, 10 and 30 s; 20 s and 25 s have no product
    assert exported.value_wh == 0.0


def test_the_whole_is_the_root_sum_of_squares_of_its_parts(tmp_path: Path) -> None:
    run = recorded(tmp_path, {"bms.power": [(float(at_s), 100.0 * at_s) for at_s in range(0, 101, 10)]})
    imported, _ = both(run, replace(POLLED, gain_percent=1.0, offset_w=20.0, clock_s=1.0), Window(0.0, 105.0))

    assert set(imported.contributions) == {"polling", "gain", "offset", "clock"}
    assert imported.expanded_uncertainty_wh == pytest.approx(math.hypot(*imported.contributions.values()), abs=2e-3)


# Too little said --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (None, "bms reported no power at the dc plane"),
        ([], "bms reported no power at the dc plane"),
        ([(0.0, 5.0)], "bms reported no power at the dc plane"),
        (
            [(0.0, math.nan, Quality.NO_DATA), (10.0, math.nan, Quality.NO_DATA)],
            "bms reported no power at the dc plane",
        ),
        ([(0.0, 5.0, Quality.STALE), (10.0, 5.0, Quality.STALE)], "bms reported no power at the dc plane"),
        ([(0.0, math.nan), (10.0, math.nan)], "bms reported no power at the dc plane"),
        ([(-20.0, 5.0), (-10.0, 5.0), (5.0, 5.0)], "bms reported power less than twice during the session"),
        ([(0.0, 5.0), (10.0, 5.0), (50.0, 5.0)], "bms was silent for 40 s of the session, polled every 10 s"),
        ([(40.0, 5.0), (50.0, 5.0)], "bms was silent for 40 s of the session, polled every 10 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_polled_witness_that_said_too_little_has_a_reason_instead_of_figures(
    tmp_path: Path, points: Sequence[Point] | None, reason: str
) -> None:
    sources = {} if points is None else {"bms.power": points}
    for figure in both(recorded(tmp_path, {**sources, "other.x": [(0.0, 1.0)]}), POLLED, Window(0.0, 50.0)):
        assert (figure.value_wh, figure.expanded_uncertainty_wh, figure.reason) == (None, None, reason)
        assert figure.contributions == {}


def test_three_polls_may_fail_and_the_fourth_may_not(tmp_path: Path) -> None:
    points = [(at_s, 1000.0) for at_s in (0.0, 10.0, 42.0, 50.0)]
    assert both(recorded(tmp_path, {"bms.power": points}), POLLED, Window(0.0, 50.0))[0].value_wh is not None
    points = [(at_s, 1000.0) for at_s in (0.0, 10.0, 42.1, 50.0)]
    assert both(recorded(tmp_path, {"bms.power": points}), POLLED, Window(0.0, 50.0))[0].value_wh is None


@pytest.mark.parametrize(
    ("register", "reason"),
    [
        ([(0.0, 5.0)], "meter reported its energy register less than twice"),
        ([(50.0, 5.0), (200.0, 5.0, Quality.STALE)], "meter reported its energy register less than twice"),
        ([(0.0, 5.0), (30.0, 6.0)], "meter did not report its energy register in the last 170 s of the session"),
        ([(70.0, 5.0), (200.0, 6.0)], "meter did not report its energy register in the first 70 s of the session"),
        (
            [(0.0, 500.0), (100.0, 0.0), (200.0, 600.0)],
            "the energy register of meter ran backwards; it was reset or exchanged during the session",
        ),
    ],
    ids=["once", "stale", "silent end", "silent begin", "reset"],
)
def test_a_register_that_cannot_be_believed_gives_a_reason_and_spares_the_other_direction(
    tmp_path: Path, register: Sequence[Point], reason: str
) -> None:
    run = recorded(
        tmp_path,
        {
            "meter.power": [(float(at_s), 36.0) for at_s in range(201)],
            "meter.in": register,
            "meter.out": [(0.0, 1.0), (200.0, 3.5)],
        },
    )
    imported, exported = both(run, COUNTED, Window(0.0, 200.0))

    assert (imported.value_wh, imported.reason) == (None, reason)
    assert exported.value_wh == 2.5


def test_a_register_that_missed_the_end_says_by_how_much_it_may_be_wrong(tmp_path: Path) -> None:
    at = [float(at_s) for at_s in range(91)]  # silent for the last 10 s, at 3600 W
    run = recorded(
        tmp_path,
        {
            "meter.power": [(at_s, 3600.0) for at_s in at],
            "meter.in": [(at_s, at_s) for at_s in at],
            "meter.out": [(at_s, 0.0) for at_s in at],
        },
    )
    imported, exported = both(run, COUNTED, Window(0.0, 100.0))

    assert imported.value_wh == 90.0
    assert imported.contributions["silence"] == 10.0  # the true 100 Wh is covered
    assert exported.contributions["silence"] == 10.0  # nobody knows which way it went


def test_other_figures_of_use_leave_out_bad_readings_and_say_none_for_nothing(tmp_path: Path) -> None:
    with recorded(
        tmp_path,
        {
            "van.soc": [(0.0, 50.0), (5.0, math.nan, Quality.NO_DATA), (10.0, 60.0), (20.0, 70.0), (99.0, 99.0)],
            "van.amps": [(0.0, 36.0), (10.0, 36.0), (20.0, -36.0), (30.0, -36.0)],
            "van.t1": [(0.0, 20.0), (10.0, 31.0)],
            "van.t2": [(0.0, 18.5), (10.0, 99.0, Quality.STALE)],
            "van.power": [(0.0, 1000.0), (1.0, 2000.0), (3.0, 2000.0)],
        },
    ) as run:
        window = Window(0.0, 30.0)
        assert first_and_last(run, "van.soc", window) == (50.0, 70.0)
        assert first_and_last(run, "van.nothing", window) is None
        assert first_and_last(run, "van.soc", Window(30.0, 40.0)) is None
        assert ampere_hours(run, "van.amps", window) == pytest.approx(36.0 * 30.0 / 3600.0)
        assert ampere_hours(run, "van.amps", Window(9.0, 11.0)) is None
        assert extremes(run, ("van.t1", "van.t2", "van.t3"), window) == (18.5, 31.0)
        assert extremes(run, ("van.t3",), window) is None
        assert mean_power(run, "van.power", 0.0, 3.0) == pytest.approx((1500.0 + 2 * 2000.0) / 3.0)
        assert mean_power(run, "van.power", 2.0, 3.0) is None


# Time lags --------------------------------------------------------------------------------------------------------


def steps(seed: int, length_s: int = 1200) -> Floats:
    """Power in W, one value a second, that changes at random times by random amounts."""
    rng = random.Random(seed)
    values: list[float] = []
    while len(values) < length_s:
        values += [rng.uniform(-9000.0, 9000.0)] * rng.randint(20, 150)
    return np.array(values[:length_s])


def lag(root: Path, first: Sequence[Point], second: Sequence[Point], window: Window, poll_s: float = 1.0) -> object:
    sheets = (
        replace(POLLED, witness="one", power="one.p", poll_s=1.0, clock_s=1.0),
        replace(POLLED, witness="two", power="two.p", poll_s=poll_s, clock_s=1.0),
    )
    with recorded(root, {"one.p": first, "two.p": second}) as run:
        (pair,) = time_lags(run, sheets, window)
    assert pair.a == "one"
    assert pair.b == "two"
    return (pair.value, pair.reason) if pair.value is None else (pair.value, pair.verdict)


def trace(values: Floats, *, late_s: int = 0, every_s: int = 1, noise_w: float = 0.0) -> list[Point]:
    rng = random.Random(3)
    return [
        (float(at_s), float(values[max(0, at_s - late_s)]) + rng.gauss(0.0, noise_w))
        for at_s in range(0, len(values), every_s)
    ]


@pytest.mark.parametrize("late_s", [-119, -60, -5, 0, 1, 5, 6, 60, 120])
def test_the_lag_of_a_late_witness_is_found_to_the_second(tmp_path: Path, late_s: int) -> None:
    values = steps(11)
    first, second = trace(values, late_s=max(0, -late_s)), trace(values, late_s=max(0, late_s))

    verdict = Agreement.AGREE if abs(late_s) <= 5 else Agreement.DISAGREE  # 2 + (1 + 1) / 2 + 1 + 1
    assert lag(tmp_path, first, second, Window(0.0, 1199.0)) == (late_s, verdict)


@pytest.mark.parametrize("late_s", [-60, -20, 0, 10, 60, 90])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_witness_polled_every_ten_seconds_shows_its_lag_within_its_poll(
    tmp_path: Path, late_s: int, seed: int
) -> None:
    values = steps(seed)
    first = trace(values, late_s=max(0, -late_s), noise_w=30.0)
    second = trace(values, late_s=max(0, late_s), every_s=10, noise_w=30.0)

    found = lag(tmp_path, first, second, Window(0.0, 1199.0), poll_s=10.0)
    assert isinstance(found, tuple)
    assert found[0] == pytest.approx(late_s, abs=5.0)
    assert found[1] is (Agreement.AGREE if abs(late_s) <= 9.5 else Agreement.DISAGREE if abs(late_s) > 15 else found[1])


@pytest.mark.parametrize("period_s", [60, 100, 120])
def test_a_schedule_that_repeats_itself_is_no_proof_of_a_wrong_clock(tmp_path: Path, period_s: int) -> None:
    values = np.where(np.arange(1200) % period_s < period_s // 2, 5000.0, -5000.0)

    found = lag(tmp_path, trace(values, noise_w=3.0), trace(values, noise_w=3.0), Window(0.0, 1199.0))
    assert found == (0.0, Agreement.AGREE)


@pytest.mark.parametrize(
    ("first", "second", "end_s", "reason"),
    [
        (steps(1), np.full(1200, 3000.0), 1199.0, "power hardly moved, so a lag would not show"),
        (np.full(1200, 3000.0), np.full(1200, 3000.0), 1199.0, "power hardly moved, so a lag would not show"),
        (steps(1), steps(1), 239.0, "a session of 240 s or less is too short to tell a lag"),
        (steps(1), steps(1), 240.0, "a session of 240 s or less is too short to tell a lag"),
        (steps(1), steps(1)[:1000], 1199.0, "one of the two told no power for 200 s"),
        (steps(1)[:0], steps(1), 1199.0, "one of the two reported no power"),
    ],
    ids=["one flat", "both flat", "short", "just short", "fell silent", "none"],
)
def test_traces_that_cannot_tell_are_not_judged(
    tmp_path: Path, first: Floats, second: Floats, end_s: float, reason: str
) -> None:
    assert lag(tmp_path, trace(first), trace(second), Window(0.0, end_s)) == (None, reason)


def test_movement_at_the_ends_alone_is_not_judged(tmp_path: Path) -> None:
    values = np.where((np.arange(1200) < 60) | (np.arange(1200) > 1140), 0.0, 7000.0)

    assert lag(tmp_path, trace(values), trace(values), Window(0.0, 1199.0)) == (
        None,
        "power hardly moved away from the ends of the session, so a lag would not show",
    )


def test_readings_that_are_all_missing_are_no_trace_and_no_crash(tmp_path: Path) -> None:
    missing: list[Point] = [(float(at_s), math.nan, Quality.NO_DATA) for at_s in range(1200)]

    found = lag(tmp_path, trace(steps(1)), missing, Window(0.0, 1199.0))
    assert found == (None, "one of the two told no power for 1199 s")


# Coverage ---------------------------------------------------------------------------------------------------------


def healthy(rng: random.Random) -> tuple[dict[str, list[Point]], Window]:
    """A session of 20 min at four channels whose errors are drawn within their data sheets, as the twins draw them."""
    length_s = 1200
    power_w, dc_w = 0.0, np.zeros(length_s)
    change_s, wanted_w = 60, 0.0
    for at_s in range(length_s):
        if at_s == change_s:
            wanted_w = rng.uniform(-9000.0, 9000.0) if at_s < 1000 else 0.0
            change_s += rng.randint(60, 260)
        wanted_w = 0.0 if at_s >= length_s - 30 else wanted_w
        power_w += max(-5000.0, min(2000.0, wanted_w - power_w))
        dc_w[at_s] = power_w
    ac_w = np.where(dc_w > 0.0, dc_w / 0.94, dc_w * 0.95) + 35.0
    charger, voltage, current = (
        Channel(accuracy, rng) for accuracy in (CHARGER_ACCURACY, VOLTAGE_ACCURACY, CURRENT_ACCURACY)
    )
    phases, dc_meter = [Channel(AC_POWER_ACCURACY, rng) for _ in range(3)], Channel(DC_POWER_ACCURACY, rng)
    traces = {
        "charger": (np.array([charger.unrounded(w) for w in ac_w]), 1.0, rng.random()),
        "meter.ac": (np.array([sum(phase.unrounded(w / 3.0) for phase in phases) for w in ac_w]), 0.01, 0.0),
        "meter.dc": (np.array([dc_meter.unrounded(w) for w in dc_w]), 0.01, 0.0),
    }
    found: dict[str, list[Point]] = {}
    for name, (watts, step_wh, begin_wh) in traces.items():
        found[f"{name}.power"] = [(float(at_s), float(w)) for at_s, w in enumerate(watts)]
        for direction, share in (("in", np.maximum(watts, 0.0)), ("out", np.maximum(-watts, 0.0))):
            count_wh = np.floor((begin_wh + np.cumsum(share) / 3600.0) / step_wh) * step_wh
            found[f"{name}.{direction}"] = [(float(at_s), float(count_wh[at_s])) for at_s in (0, 600, length_s - 1)]
    phase_s = rng.randint(0, 9)
    found["van.v"] = [(float(at_s), voltage(380.0)) for at_s in range(phase_s, length_s, 10)]
    found["van.a"] = [(float(at_s), current(float(dc_w[at_s]) / 380.0)) for at_s in range(phase_s, length_s, 10)]
    return found, Window(0.0, length_s - 1.0)


def sheet(witness: str, plane: Plane, source: str, *, gain: float, offset_w: float, step_wh: float) -> WitnessSheet:
    return WitnessSheet(
        witness=witness,
        plane=plane,
        gain_percent=gain,
        offset_w=offset_w,
        resolution_wh=step_wh,
        poll_s=1.0,
        clock_s=1.0,
        power=f"{source}.power",
        import_energy=f"{source}.in",
        export_energy=f"{source}.out",
    )


SHEETS = (
    sheet("charger", Plane.AC, "charger", gain=1.0, offset_w=3.0, step_wh=1.0),
    sheet("meter", Plane.AC, "meter.ac", gain=0.1, offset_w=3.0, step_wh=0.01),
    sheet("meter", Plane.DC, "meter.dc", gain=0.1, offset_w=3.0, step_wh=0.01),
    replace(POLLED, witness="van", gain_percent=1.0, offset_w=20.0, clock_s=1.0, power="van.v", current="van.a"),
)


@pytest.mark.slow
def test_of_300_healthy_sessions_at_least_90_percent_agree_in_every_pair(
    tmp_path: Path,
) -> None:
    rng = random.Random(20_260_101)
    agreed: dict[tuple[str, str], list[bool]] = {}
    whole = []
    for _ in range(300):
        sources, window = healthy(rng)
        with recorded(tmp_path, sources) as run:
            result = reconcile(energies(run, SHEETS, window), time_lags(run, SHEETS, window))
        found = [
            *((f"{p.plane.value} {p.direction.value}", p.a, p.b, p.verdict) for p in result.pairs),
            *((f"{t.plane.value} lag", t.a, t.b, t.verdict) for t in result.traces),
        ]
        for kind, a, b, verdict in found:
            if verdict is not Agreement.NOT_JUDGED:
                agreed.setdefault((kind, f"{a}/{b}"), []).append(verdict is Agreement.AGREE)
        whole.append(result.verdict is Agreement.AGREE)
    shares = {" ".join(key): sum(each) / len(each) for key, each in agreed.items()}
    print(f"agreeing: {shares}; sessions without any disagreement: {sum(whole) / len(whole):.3f}")  # with -s or -rP

    assert len(shares) == 6
    assert min(shares.values()) >= 0.90, shares
    assert sum(whole) / len(whole) >= 0.85, shares


def test_an_error_of_twice_the_data_sheet_does_not_pass(tmp_path: Path) -> None:
    sources, window = healthy(random.Random(5))
    sources["charger.in"] = [(point[0], math.floor(1.02 * point[1])) for point in sources["charger.in"]]
    with recorded(tmp_path, sources) as run:
        result = reconcile(energies(run, SHEETS, window), time_lags(run, SHEETS, window))

    assert result.verdict is Agreement.DISAGREE
    assert {pair.plane for pair in result.pairs if pair.verdict is Agreement.DISAGREE} == {Plane.AC}
