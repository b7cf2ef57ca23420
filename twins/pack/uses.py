"""What a pack is used for, step by step: who is answerable for the wear."""

from __future__ import annotations

import enum


class Use(enum.IntEnum):
    """The use of one step; discharged ampere-hours, and with them cycle wear, belong to it."""

    PARKED = 0  # standing: auxiliary loads, heater, self-discharge
    DRIVING = 1  # regeneration included
    V2G = 2  # everything between a V2G contract's begin and end, recharge of what it took included
    CHARGING = 3  # AC charging
    RAPID = 4  # DC rapid charging, with the pack's own heat factor
