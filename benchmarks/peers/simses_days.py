"""Peer of `benchmarks pack`: some days of electrical and aging simulation by SimSES 2, in an environment of its own.

Run as `python simses_days.py POWER.npy STEP_S`; the file holds one float32 row of power in W at a 40 kWh pack. Its own
cell with aging is the Sony LFP; it is kept at 25 degC, because its resistance table ends at 10. Prints one JSON object.
"""

import json
import sys
import time

import numpy as np
from simses.battery.battery import Battery
from simses.model.cell.sony_lfp import SonyLFP

power_w = np.load(sys.argv[1])
step_s = float(sys.argv[2])
# 110s x 120p of 3 Ah at 3.2 V is a pack of 40 kWh and 350 V, as ours.
battery = Battery(SonyLFP(), (110, 120), {"start_soc": 0.6, "start_T": 25.0}, degradation=True)
watts = [float(value) for value in power_w]
began = time.perf_counter()
for value in watts:
    battery.step(value, step_s)
print(json.dumps({"seconds": time.perf_counter() - began, "steps": len(watts)}))
