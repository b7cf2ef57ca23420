"""Parameters of the e-NV200's 40 kWh pack: 96 groups in series, two cells in parallel.

Sources are named per value. "captures" are public recordings of 40 kWh vans and cars (OBDb/Nissan-Leaf,
dalathegreat/EV-CANlogs, furdog/leaf_can_filter) as decoded for this project.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUPS_IN_SERIES = 96  # 96s2p, 192 AESC pouch cells (pushevs.com)
NEW_CAPACITY_AH = 115.44  # capacity over SOH in four cars (captures)
NEW_FULL_ENERGY_WH = 40_400.0  # frame 0x59E full energy at SOH 98, 94 and 85 %, extrapolated to 100 % (captures)
WH_PER_GID = 79.8  # 0x59E over 0x5BC at mid state of charge: 79.5 to 80.0 (captures)

# Open-circuit voltage of one group at rest over the BMS's real state of charge. From captures between 20.8 and 95.7 %;
# 100 % is the 403.2 V of the data sheet; below 20 % an estimate that keeps the slope of the informal charger-side list.
OPEN_CIRCUIT_POINTS: tuple[tuple[float, float], ...] = (
    (0.0, 3.200),
    (2.5, 3.330),
    (5.0, 3.400),
    (10.0, 3.470),
    (20.8, 3.542),
    (31.7, 3.602),
    (43.2, 3.634),
    (50.0, 3.672),
    (58.4, 3.737),
    (62.9, 3.785),
    (70.0, 3.864),
    (77.0, 3.948),
    (84.7, 4.045),
    (87.65, 4.075),
    (95.7, 4.172),
    (100.0, 4.200),
)


@dataclass(frozen=True, slots=True)
class PackParameters:
    """What the pack twin is made of; every value can be set from a station file's twin entry."""

    capacity_ah: float = NEW_CAPACITY_AH  # at SOH 100 %
    resistance_25c_ohm: float = 0.075  # whole pack; 60 to 90 mOhm expected (captures, estimate)
    resistance_activation_j_per_mol: float = 20_000.0  # doubles from 25 to about 0 degC (captures, estimate)
    heat_capacity_j_per_k: float = 176_000.0  # 192 cells x 0.917 kg x 1000 J/(kg K) (estimate for NMC pouch cells)
    heat_loss_w_per_k: float = 8.0  # parked, still air; from memory
    discharge_limit_w: float = 110_000.0  # group 1 bytes 16 to 17 at 17 to 21 degC (captures)
    charge_limit_w: float = 70_000.0  # group 1 bytes 14 to 15 at 17 to 21 degC, 58 % (captures)
