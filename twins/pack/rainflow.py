"""Rainflow counting that never sees the whole series: turning points wait on a stack until their cycle closes.

The rule is that of ASTM E1049-85, section 5.4.4: of the last three turning points, the range between the older two is a
cycle as soon as the newest range is not smaller; where it contains the very first point it is half a cycle and that
point is dropped. What still waits at the end counts as half cycles (`remainder`). The cycles are those of a count over
the whole series at once, whatever pieces the series comes in.

Each waiting range carries what happened on its leg (`twins.pack.layout`, columns `G_*`: time, ampere-hours by use,
temperature). A full cycle takes its own leg whole and, of the leg that returns over it, the share that it covers; what
is left of both neighbours joins to the leg between the points that stay. So nothing is counted twice and nothing lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twins.pack.compiled import compiled
from twins.pack.layout import LEG_COLUMNS, STACK

Array = NDArray[np.float64]

# Columns of a closed cycle: depth and mean of the counted quantity, 1 or 0.5 cycles, whether its own leg rises, and
# what happened on its own leg and on the share of the leg that returns.
C_DEPTH, C_MEAN, C_CYCLES, C_RISING, C_OWN = 0, 1, 2, 3, 4
C_BACK = C_OWN + LEG_COLUMNS
CYCLE_COLUMNS = C_BACK + LEG_COLUMNS


def new_stack() -> tuple[Array, Array]:
    """A stack for turning points and the buffer that `turn` and `remainder` write closed cycles to."""
    return np.zeros((STACK, 1 + LEG_COLUMNS)), np.zeros((STACK, CYCLE_COLUMNS))


@compiled
def turn(stack: Array, waiting: int, value: float, closed: Array) -> tuple[int, int, int]:
    """Take in a turning point at `value`; the leg that ended there stands in the last waiting row.

    Returns how many points wait now, how many rows of `closed` were written, and how many points had to be given up as
    half cycles because the stack was full (0 but for ranges that shrink a hundred times in a row).
    """
    written = 0
    while waiting >= 2:
        newest = abs(value - stack[waiting - 1, 0])
        older = abs(stack[waiting - 1, 0] - stack[waiting - 2, 0])
        if newest < older:
            break
        if waiting == 2:
            _write_half(stack, 0, stack[1, 0], closed, written)
            stack[0] = stack[1]
            waiting = 1
        else:
            share = older / newest
            low = waiting - 2
            row = closed[written]
            row[C_DEPTH] = older
            row[C_MEAN] = 0.5 * (stack[low, 0] + stack[low + 1, 0])
            row[C_CYCLES] = 1.0
            row[C_RISING] = 1.0 if stack[low + 1, 0] > stack[low, 0] else 0.0
            for column in range(LEG_COLUMNS):
                own, back = stack[low, 1 + column], stack[low + 1, 1 + column]
                row[C_OWN + column] = own
                row[C_BACK + column] = share * back
                stack[low - 1, 1 + column] += back - share * back
            waiting -= 2
        written += 1
    given_up = 0
    if waiting == STACK:
        _write_half(stack, 0, stack[1, 0], closed, written)
        written += 1
        for index in range(STACK - 1):
            stack[index] = stack[index + 1]
        waiting -= 1
        given_up = 1
    stack[waiting, 0] = value
    stack[waiting, 1:] = 0.0
    return waiting + 1, written, given_up


@compiled
def remainder(stack: Array, waiting: int, closed: Array, written: int) -> int:
    """Write what waits as half cycles behind `written` rows of `closed`; the stack stays as it is.

    Call `turn` with the present value on a copy of the stack first. Returns the number of rows written in all.
    """
    for index in range(waiting - 1):
        _write_half(stack, index, stack[index + 1, 0], closed, written)
        written += 1
    return written


@compiled
def _write_half(stack: Array, index: int, end: float, closed: Array, written: int) -> None:
    begin = stack[index, 0]
    row = closed[written]
    row[C_DEPTH] = abs(end - begin)
    row[C_MEAN] = 0.5 * (begin + end)
    row[C_CYCLES] = 0.5
    row[C_RISING] = 1.0 if end > begin else 0.0
    for column in range(LEG_COLUMNS):
        row[C_OWN + column] = stack[index, 1 + column]
        row[C_BACK + column] = 0.0


@compiled
def count_cycles(series: Array) -> Array:
    """Count a whole series: rows of (range, mean, cycles), full cycles as they close, then the half cycles that stay.

    Shape (cycles, 3). A series without a turning point has none but its own range.
    """
    stack = np.zeros((STACK, 1 + LEG_COLUMNS))
    closed = np.zeros((2 * STACK, CYCLE_COLUMNS))
    counted = np.zeros((series.shape[0] + 1, 3))
    found = 0
    waiting = 0
    direction = 0.0
    last = series[0] if series.shape[0] else 0.0
    for index in range(series.shape[0]):
        if index == 0:
            stack[0, 0] = series[0]
            waiting = 1
            continue
        moved = series[index] - last
        if moved * direction < 0.0:
            waiting, written, _ = turn(stack, waiting, last, closed)
            for row in range(written):
                counted[found, 0], counted[found, 1], counted[found, 2] = closed[row, 0], closed[row, 1], closed[row, 2]
                found += 1
        if moved != 0.0:
            direction = moved
        last = series[index]
    if direction != 0.0:
        waiting, written, _ = turn(stack, waiting, last, closed)
        written = remainder(stack, waiting, closed, written)
        for row in range(written):
            counted[found, 0], counted[found, 1], counted[found, 2] = closed[row, 0], closed[row, 1], closed[row, 2]
            found += 1
    return counted[:found]
