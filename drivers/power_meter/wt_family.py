"""The Yokogawa WT family as data: what driver and twin agree on, and nothing that encodes or decodes.

The driver and the face of the twin each have an encoder and decoder of their own; they share only this table, so that
a mistake in reading or writing bytes cannot hide on both ends.

Sources: Yokogawa's communication manuals (IM 760301-17E and IM WT3001E-17EN for the WT3000, IM WT310E-17EN for the
WT300E); the public repository seekae5/wt3000_treiber_V3_experimentell for what a real WT3000 was seen to do.
"""

from __future__ import annotations

from typing import Final

# Bit patterns of a FLOat block. Both are finite numbers near 9.9E+37, so only the bits tell them from a value.
NO_DATA_BITS: Final = 0x7E951BEE
OVER_RANGE_BITS: Final = 0x7E94F56A
NO_DATA_WORD: Final = "NAN"
OVER_RANGE_WORD: Final = "INF"

UPDATE_INTERVALS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)

MAX_ITEMS: Final = 255

# Condition register, IM WT3001E-17EN section 7.4. Filters are numbered from 1, bits from 0.
CONDITION_UPDATING: Final = 1 << 0
CONDITION_INTEGRATING: Final = 1 << 1
CONDITION_TIMER: Final = 1 << 2
CONDITION_OVER_RANGE_ELEMENT_1: Final = 1 << 8  # elements 2 to 4 follow
CONDITION_PEAK_OVER: Final = 1 << 15

# Functions by their long form, with the unit of the value.
FUNCTIONS: Final = {
    "U": "V",
    "I": "A",
    "P": "W",
    "S": "VA",
    "Q": "var",
    "LAMBDA": "1",
    "PHI": "deg",
    "FU": "Hz",
    "FI": "Hz",
    "URMS": "V",
    "IRMS": "A",
    "UDC": "V",
    "IDC": "A",
    "WH": "Wh",
    "WHP": "Wh",
    "WHM": "Wh",
    "AH": "Ah",
    "AHP": "Ah",
    "AHM": "Ah",
    "WS": "VAh",
    "WQ": "varh",
    "TIME": "s",
}

INTEGRATED: Final = frozenset({"WH", "WHP", "WHM", "AH", "AHP", "AHM", "WS", "WQ", "TIME"})

WIRINGS: Final = ("P1W2", "P1W3", "P3W3", "P3W4", "V3A3")

# Input ranges of a 30 A element at crest factor 3.
VOLTAGE_RANGES_V: Final = (15.0, 30.0, 60.0, 100.0, 150.0, 300.0, 600.0, 1000.0)
CURRENT_RANGES_A: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
CREST_FACTOR: Final = 3.0
OVER_RANGE_FACTOR: Final = 1.4  # a value above 140 % of its range is shown as over-range; from memory

# Error queue. 0, 113 and 350 as in IM WT310E-17EN section 7.5; the others are the SCPI numbers without their sign.
ERRORS: Final = {
    0: "No error",
    102: "Syntax error",
    108: "Parameter not allowed",
    109: "Missing parameter",
    113: "Undefined header",
    114: "Header suffix out of range",
    128: "Numeric data not allowed",
    141: "Invalid character data",
    221: "Setting conflict",
    222: "Data out of range",
    223: "Too much data",
    350: "Queue overflow",
}
