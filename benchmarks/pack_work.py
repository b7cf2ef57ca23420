"""The timed work of `benchmarks pack`, each part in a process of its own: `python -m benchmarks.pack_work PART …`.

Memory is a process's own peak, so parts must not share one. Prints one JSON object on standard output.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from bench.assets import asset
from twins.pack.model import PackModel
from twins.pack.pack import PackTwin
from twins.pack.parameters import shipped_pack
from twins.pack.series import Drive, PackState, advance
from twins.pack.snapshot import snapshot
from twins.pack.uses import Use
from twins.replay import ReplaySample
from twins.scenarios.habits import day_drive
from twins.scenarios.model import Scenario, load_scenario

Result = Mapping[str, float]

_SCENARIO = "scenarios/benchmark_year.yaml"


def year(days: str, every_group: str, kept: str) -> Result:
    """The benchmark year at 1 s, a day at a time; `kept` is a file for the peer's input (SOC, temperature), or ''."""
    scenario = _scenario(1)
    model = PackModel.build(shipped_pack("env200_40kwh"))
    state = PackState.new(model, soc=0.6, temperature_c=5.0, every_group=every_group == "groups")
    warm = state.copy()
    advance(model, warm, _part(day_drive(scenario, 0), 10))
    count = int(days)
    series = np.lib.format.open_memmap(kept, mode="w+", dtype=np.float32, shape=(2, count * 86_400)) if kept else None
    simulated_s, generated_s = 0.0, 0.0
    for day in range(count):
        began = time.perf_counter()
        drive = day_drive(scenario, day)
        generated = time.perf_counter()
        recorded = advance(model, state, drive, record=("soc", "temperature_c") if kept else ())
        simulated_s += time.perf_counter() - generated
        generated_s += generated - began
        if series is not None:
            series[:, day * 86_400 : (day + 1) * 86_400] = np.stack((recorded["soc"], recorded["temperature_c"]))
    now = snapshot(model, state)
    return {
        "seconds": simulated_s,
        "generated_s": generated_s,
        "loss": now.laws["b1"].capacity_loss,
        "efc": now.efc,
        "peak_mb": _peak_mb(),
    }


def power(days: str, kept: str) -> Result:
    """The power of some days at 1 s, as a file for the peer."""
    scenario = _scenario(1)
    watts = np.concatenate([day_drive(scenario, day).power_w for day in range(int(days))])
    np.save(kept, watts.astype(np.float32))
    return {"steps": watts.size}


def fleet(packs: str) -> Result:
    """One day at 10 s steps for many packs of different health and charge, on all processors."""
    scenario = _scenario(10)
    model = PackModel.build(shipped_pack("env200_40kwh"))
    count = int(packs)
    rng = np.random.default_rng(1)
    state = PackState.new(
        model,
        packs=count,
        soc=rng.uniform(0.4, 0.9, count),
        soh=np.round(rng.uniform(0.8, 1.0, count), 3),
        temperature_c=rng.uniform(0.0, 30.0, count),
    )
    warm = PackState.new(model)
    drive = day_drive(scenario, 1)
    advance(model, warm, _part(drive, 10))
    began = time.perf_counter()
    advance(model, state, drive)
    return {"seconds": time.perf_counter() - began, "peak_mb": _peak_mb()}


def start() -> Result:
    """From an interpreter that has imported nothing to the first step; whoever calls takes the time."""
    PackTwin(soc=0.5).step(1000.0, 1.0)
    return {}


def fit() -> Result:
    """Identify the pack from 45 minutes of rapid charging at 1 s, with uncertainty; best of three after one to warm."""
    from twins.pack.identification.fit import fit_series  # noqa: PLC0415  # SciPy, which the other parts do without
    from twins.pack.identification.reading import series_of  # noqa: PLC0415

    pack = shipped_pack("env200_40kwh")
    series = series_of(_rapid_charge(2700), pack, name="rapid charge")
    fit_series(series, pack)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        fit_series(series, pack)
        times.append(time.perf_counter() - began)
    return {"seconds": min(times), "rows": float(series.rows)}


def _rapid_charge(seconds: int) -> list[ReplaySample]:
    """A rapid charge as an adapter logs it each second: 0.5 V, 0.5 A, 0.5 degC and 0.1 % steps."""
    twin = PackTwin(soc=0.2, ambient_c=12.0, temperature_c=18.0)
    twin.use = Use.RAPID
    found = []
    for second in range(seconds):
        twin.step(min(40_000.0, twin.charge_limit_w()), 1.0)
        celsius = round(2.0 * twin.plates_c) / 2.0
        found.append(
            ReplaySample(
                time_s=float(second),
                soc_percent=round(100.0 * twin.soc, 1),
                capacity_ah=twin.capacity_ah,
                pack_voltage_v=round(2.0 * twin.voltage_v) / 2.0,
                pack_current_a=round(2.0 * twin.current_a) / 2.0,
                pack_temperature_1_c=celsius,
                pack_temperature_2_c=celsius,
                ambient_c=12.0,
                speed_kmh=0.0,
                charge_mode=3.0,
            )
        )
    return found


def _scenario(step_s: int) -> Scenario:
    return load_scenario(asset(_SCENARIO)).model_copy(update={"step_s": step_s})


def _part(drive: Drive, samples: int) -> Drive:
    """The first samples of a drive, to have everything compiled and loaded."""

    def cut(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        return values if values is None or values.size == 1 else values[:samples]

    assert drive.use is not None
    return Drive(
        dt_s=drive.dt_s,
        power_w=drive.power_w[:samples],
        ambient_c=drive.ambient_c[:samples],
        use=drive.use[:samples],
        speed_km_h=cut(drive.speed_km_h),
        soc_ceiling=cut(drive.soc_ceiling),
        soc_floor=cut(drive.soc_floor),
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


_PARTS: Mapping[str, Callable[..., Result]] = {
    "year": year,
    "power": power,
    "fleet": fleet,
    "start": start,
    "fit": fit,
}

if __name__ == "__main__":
    print(json.dumps(_PARTS[sys.argv[1]](*sys.argv[2:])))
