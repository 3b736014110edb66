"""Schedules: functions of the step, counted from 0, for learning rate and rho alike.

Thin over `optax.schedules`; what they add are the recipes of the paper, and checks.
Every schedule takes `warmup_steps`: the value grows linearly from 0 at step 0 to the
peak at that step (Goyal et al. 2017, Sec. 2.2). Where the later parts lie is not moved
by a warm-up, except that the cosine then spans the steps that are left.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optax

from sam_jax import checks

Schedule = optax.Schedule


def constant(
    peak: checks.Number, total_steps: int | None = None, *, warmup_steps: int = 0
) -> Schedule:
    """The peak at every step; the number of steps does not matter."""
    _check(peak, total_steps, warmup_steps)
    return warm_up(optax.schedules.constant_schedule(peak), peak, warmup_steps)


def piecewise_constant(
    peak: checks.Number,
    total_steps: int,
    *,
    boundaries: Sequence[checks.Number] = (0.5, 0.75),
    factor: checks.Number = 0.1,
    warmup_steps: int = 0,
) -> Schedule:
    """peak * factor^k, with k the number of boundaries b that t >= b T has passed.

    The defaults are the paper's for deep networks: 10 times less at 50% and again at
    75% of the steps (App. C).

    Args:
      peak: first value, >= 0.
      total_steps: T.
      boundaries: fractions of T in [0, 1].
      factor: of each drop, in [0, 1].
      warmup_steps: must end before the first boundary.

    Examples:
      >>> rate = piecewise_constant(0.1, total_steps=100)
      >>> [round(float(rate(t)), 6) for t in (0, 49, 50, 75)]
      [0.1, 0.1, 0.01, 0.001]
    """
    _check(peak, total_steps, warmup_steps)
    checks.number("factor", factor, 0, 1)
    scales: dict[int, float] = {}
    for boundary in boundaries:
        # Rounded first: 0.07 * 100 is 7.000000000000001, and is meant to be 7.
        exact = round(checks.number("boundaries", boundary, 0, 1) * total_steps, 6)
        start = math.ceil(exact)
        scales[start] = scales.get(start, 1.0) * factor
    if warmup_steps and scales and warmup_steps > min(scales):
        raise ValueError(
            f"Received warmup_steps={warmup_steps}, beyond the first boundary at step "
            f"{min(scales)}; warm up for fewer steps."
        )
    shifted = {start - warmup_steps: scale for start, scale in scales.items()}
    after = optax.schedules.piecewise_constant_schedule(peak, shifted)
    return warm_up(after, peak, warmup_steps)


def cosine(peak: checks.Number, total_steps: int, *, warmup_steps: int = 0) -> Schedule:
    """peak (1 + cos(pi t / T)) / 2: one cycle to 0, without restarts.

    Loshchilov & Hutter 2017, Eq. 5; the paper's Table 2 after Huang et al. 2020. With a
    warm-up of w steps, t and T count from step w. 0 from step T on.
    """
    _check(peak, total_steps, warmup_steps)
    after = optax.schedules.cosine_decay_schedule(peak, total_steps - warmup_steps)
    return warm_up(after, peak, warmup_steps)


def warm_up(schedule: Schedule, peak: checks.Number, warmup_steps: int) -> Schedule:
    """peak t / w for t < w = warmup_steps, then schedule(t - w)."""
    if checks.integer("warmup_steps", warmup_steps, 0) == 0:
        return schedule
    rise = optax.schedules.linear_schedule(0.0, peak, warmup_steps)
    return optax.schedules.join_schedules([rise, schedule], [warmup_steps])


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "piecewise_constant": piecewise_constant,
    "cosine": cosine,
}


def create(
    name: str, *, peak: checks.Number, total_steps: int, **options: Any
) -> Schedule:
    """The schedule of this name: step -> value.

    create("piecewise_constant", peak=0.1, total_steps=1000, warmup_steps=50).

    Raises: ValueError for an unknown name or option, listing the known ones, for a
      negative or non-finite peak, and for a warm-up as long as the run.
    """
    schedule = checks.choose("schedule", name, SCHEDULES)
    arguments = list(inspect.signature(schedule).parameters)
    checks.options(f"schedule {name!r}", options, arguments[2:])
    return schedule(peak, total_steps, **options)


def _check(peak: checks.Number, total_steps: int | None, warmup_steps: int) -> None:
    checks.number("peak", peak, low=0)
    checks.integer("warmup_steps", warmup_steps, 0)
    if total_steps is None:
        return
    if warmup_steps >= checks.integer("total_steps", total_steps, 1):
        raise ValueError(
            f"Received warmup_steps={warmup_steps} of total_steps={total_steps}; the "
            "warm-up must be shorter than the run."
        )


# APGD's alpha, the weight of a gradient step against the step before, and its rho, the
# share of steps that must improve the loss (Croce & Hein 2020, Sec. 3.1, 3.2).
APGD_MOMENTUM, APGD_IMPROVING = 0.75, 0.75


def apgd_checkpoints(steps: int) -> Iterator[int]:
    """For each step the steps since the last checkpoint if it is one, else 0.

    APGD halves its step size at checkpoints (Croce & Hein 2020, Sec. 3.2). The first
    one is after 22% of the steps, every later stretch 3% of all steps shorter than the
    one before, down to 6%, in whole steps, 1 at least, as their code rounds them.
    """
    length, least = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
    count = 0
    for _ in range(steps):
        count += 1
        due = count == length
        yield length if due else 0
        if due:
            length, count = max(length - max(int(0.03 * steps), 1), least), 0
