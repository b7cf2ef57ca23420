"""A Gaussian posterior by Gauss-Newton: priors and observations in, mean, standard deviations and residuals out.

Residuals of a log are not white: what the model leaves out lasts for minutes, and a rounded sensor repeats itself. A
likelihood that counts each row once is then far too sure (90 % intervals that cover 0 to 40 %). So the variance of each
kind of observation is inflated by the integrated autocorrelation time of its residuals, which is the same as counting
effective rows only (Sokal 1997, "Monte Carlo Methods in Statistical Mechanics", with his automatic window).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from drivers.errors import ConfigError
from twins.pack.identification.series import Floats

_WINDOW: Final = 5.0  # Sokal's c: 4 to 6 autocorrelation times
_LEAST_ROWS: Final = 8
_ITERATIONS: Final = 12
_ROUNDS: Final = 3
_SMALLEST_GAIN: Final = 0.01  # of a sum of squares whose unit is one standard deviation
_STEP_LIMIT: Final = 3.0  # prior standard deviations per iteration


@dataclass(frozen=True, slots=True)
class Block:
    """Observations of one kind from one log, in time order: values (n,), the least standard deviation, and weights.

    `weights` (n,) divide the standard deviation: 0 for a row that does not count, below 1 for one that counts less.
    `least_time` is the shortest autocorrelation time, in rows, that rounding allows.
    """

    values: Floats
    least_sd: float
    weights: Floats
    least_time: float = 1.0


@dataclass(frozen=True, slots=True)
class Posterior:
    """MAP and its Gaussian; `noise` has for each block (standard deviation, autocorrelation time in rows)."""

    mean: Floats  # (p,)
    covariance: Floats  # (p, p)
    noise: tuple[tuple[float, float], ...]
    residuals: tuple[Floats, ...]  # observed - modelled, per block
    iterations: int

    @property
    def sd(self) -> Floats:
        """Standard deviations, (p,)."""
        return np.sqrt(np.diag(self.covariance))


Predict = Callable[[Floats], tuple[Sequence[Floats], Sequence[Floats]]]
"""Parameters (p,) to what each block would show (n,), and its Jacobian (n, p)."""

Evaluate = Callable[[Floats], Sequence[Floats]]
"""Parameters (p,) to what each block would show, without a Jacobian."""


def autocorrelation_time(residuals: Floats) -> float:
    """Integrated autocorrelation time in rows, at least 1: n rows count as n / time independent ones."""
    count = residuals.size
    if count < _LEAST_ROWS:
        return 1.0
    centred = residuals - residuals.mean()
    power = float(centred @ centred)
    if power <= 0.0:
        return 1.0
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    correlation = np.fft.irfft(spectrum * np.conj(spectrum), size)[: count // 2] / power
    times = 2.0 * np.cumsum(correlation) - 1.0
    enough = np.flatnonzero(np.arange(times.size) >= _WINDOW * times)
    window = int(enough[0]) if enough.size else times.size - 1
    return float(max(1.0, times[window], times[: window + 1].max() * 0.5))


def dwell_rows(values: Floats) -> float:
    """Mean number of rows over which a rounded value stays the same: they hold one error, and count once.

    Fitted parameters follow part of a sensor's steps, so the residuals' own autocorrelation is too short for them.
    """
    if values.size < 2:
        return 1.0
    return values.size / (1.0 + float(np.count_nonzero(np.diff(values))))


def solve(
    predict: Predict,
    evaluate: Evaluate,
    blocks: Sequence[Block],
    prior_mean: Floats,
    prior_sd: Floats,
    *,
    start: Posterior | None = None,
) -> Posterior:
    """Find the MAP, estimate noise and its autocorrelation from the residuals, and repeat with those.

    A prior standard deviation of 0 holds a parameter at its prior mean. `start` is a posterior of the same blocks to
    begin from, with its noise. Raises ConfigError where no finite fit exists.
    """
    free = np.flatnonzero(prior_sd > 0.0)
    mean = prior_mean.copy() if start is None else np.where(prior_sd > 0.0, start.mean, prior_mean)
    noise = [(3.0 * block.least_sd, block.least_time) for block in blocks] if start is None else list(start.noise)
    iterations = 0
    residuals: list[Floats] = []
    for _ in range(_ROUNDS if start is None else 1):
        mean, taken = _maximise(predict, evaluate, blocks, noise, prior_mean, prior_sd, free, mean)
        iterations += taken
        residuals = [block.values - shown for block, shown in zip(blocks, evaluate(mean), strict=True)]
        noise = [_noise_of(block, rest) for block, rest in zip(blocks, residuals, strict=True)]
    _, jacobians = predict(mean)
    information = _information(jacobians, blocks, noise, prior_sd, free)
    if not np.isfinite(mean).all() or not np.isfinite(information).all():
        raise ConfigError("the fit did not come to a finite end; the log and the pack do not belong together")
    covariance = np.zeros((prior_mean.size, prior_mean.size))
    covariance[np.ix_(free, free)] = cho_solve(cho_factor(information), np.eye(free.size))
    return Posterior(mean, covariance, tuple(noise), tuple(residuals), iterations)


def _noise_of(block: Block, residuals: Floats) -> tuple[float, float]:
    counted = block.weights > 0.0
    weighted = (residuals * block.weights)[counted]
    sd = math.sqrt(float(np.mean(weighted**2))) if weighted.size else block.least_sd
    return max(sd, block.least_sd), max(autocorrelation_time(weighted), block.least_time)


def _scale(block: Block, noise: tuple[float, float]) -> Floats:
    return np.asarray(block.weights / (noise[0] * math.sqrt(noise[1])), dtype=np.float64)


def _information(
    jacobians: Sequence[Floats],
    blocks: Sequence[Block],
    noise: Sequence[tuple[float, float]],
    prior_sd: Floats,
    free: NDArray[np.intp],
) -> Floats:
    information = np.diag(1.0 / prior_sd[free] ** 2)
    for jacobian, block, each in zip(jacobians, blocks, noise, strict=True):
        scaled = jacobian[:, free] * _scale(block, each)[:, None]
        information += scaled.T @ scaled
    return information


def _cost(
    shown: Sequence[Floats],
    blocks: Sequence[Block],
    noise: Sequence[tuple[float, float]],
    deviation: Floats,
) -> float:
    cost = float(deviation @ deviation)
    for values, block, each in zip(shown, blocks, noise, strict=True):
        rest = (block.values - values) * _scale(block, each)
        cost += float(rest @ rest)
    return cost if math.isfinite(cost) else math.inf


def _maximise(
    predict: Predict,
    evaluate: Evaluate,
    blocks: Sequence[Block],
    noise: Sequence[tuple[float, float]],
    prior_mean: Floats,
    prior_sd: Floats,
    free: NDArray[np.intp],
    start: Floats,
) -> tuple[Floats, int]:
    """Gauss-Newton with halved steps where the cost would rise."""
    mean = start.copy()
    cost = _cost(evaluate(mean), blocks, noise, (mean[free] - prior_mean[free]) / prior_sd[free])
    for iteration in range(1, _ITERATIONS + 1):
        shown, jacobians = predict(mean)
        information = _information(jacobians, blocks, noise, prior_sd, free)
        gradient = (prior_mean[free] - mean[free]) / prior_sd[free] ** 2
        for values, jacobian, block, each in zip(shown, jacobians, blocks, noise, strict=True):
            scale = _scale(block, each)
            gradient += (jacobian[:, free] * scale[:, None]).T @ ((block.values - values) * scale)
        step = cho_solve(cho_factor(information), gradient)
        step *= min(1.0, _STEP_LIMIT / max(float(np.max(np.abs(step) / prior_sd[free])), 1e-12))
        gain = 0.0
        for _ in range(6):
            tried = mean.copy()
            tried[free] += step
            cost_tried = _cost(evaluate(tried), blocks, noise, (tried[free] - prior_mean[free]) / prior_sd[free])
            if cost_tried < cost:
                gain, mean, cost = cost - cost_tried, tried, cost_tried
                break
            step *= 0.5
        if gain < _SMALLEST_GAIN:
            return mean, iteration
    return mean, _ITERATIONS
