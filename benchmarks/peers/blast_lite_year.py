"""Peer of `benchmarks pack`: the aging of a year by NREL's blast-lite, in an environment of its own.

Run as `python blast_lite_year.py SERIES.npy STEP_S`; the file holds two float32 rows, state of charge (fraction) and
temperature (degC). Prints one JSON object: seconds for the simulation alone, capacity loss, peak memory.
"""

import json
import resource
import sys
import time

import numpy as np
from blast.models import NMC_Gr_50Ah_B1

series = np.load(sys.argv[1])
step_s = float(sys.argv[2])
course = {
    "Time_s": np.arange(series.shape[1], dtype=np.float64) * step_s,
    "SOC": series[0].astype(np.float64),
    "Temperature_C": series[1].astype(np.float64),
}
cell = NMC_Gr_50Ah_B1()
began = time.perf_counter()
cell.simulate_battery_life(course)
seconds = time.perf_counter() - began
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
print(json.dumps({"seconds": seconds, "loss": float(1.0 - cell.outputs["q"][-1]), "peak_mb": peak_mb}))
