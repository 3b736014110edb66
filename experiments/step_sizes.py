"""Decreasing steps: how fast rho must fall, and normalised beside unnormalised SAM.

With step sizes gamma_t of order 1 / t, losses fall like 1 / t if rho_t is of the order
of the square root of gamma_t, or smaller; if it falls slower, SAM's fixed point, which
is rho_t off the minimum, sets the rate: t^-2p for rho_t like gamma_t^p. Normalised SAM,
which cycles under constant steps, has the rate of the unnormalised under these. Where
examples have gradients of unequal length at the minimum its fixed point is another one,
and so is the constant before the rate.
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import statistics
from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.core import ascent
from sam_jax.core.objective import Objective
from sam_jax.theory import constants
from sam_jax.toys import descent, scalars

SOURCE = "Section 3.2, decreasing steps"
X64 = True
# Curvatures and centres of two parabolas, whose mean is w^2 + 3: their gradients at its
# minimum are -3 and 3. The steeper one pulls SAM to its own side.
PARABOLAS = np.array([[1.0, 3.0], [3.0, -1.0]])
# Three with gradients of unequal length at the minimum, -9, 3 and 6: where all have one
# length, normalised SAM is the unnormalised there.
UNEQUAL = np.array([[1.0, 9.0], [2.0, -1.5], [3.0, -2.0]])
LENGTH = 6.0  # their mean
BETA, MU = 3.0, 2.0  # of both
EXPONENTS = (1.0, 0.5, 0.25, 0.0)
FORMS = {
    "unnormalised": (ascent.unnormalized, 1.0),
    "normalised": (ascent.normalized, LENGTH),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """seeds, steps, times: of the stochastic runs, watched at so many iterations.
    cycle_rho: radius of the runs on w^2 / 2 and on the function of Fact II.
    """

    seeds: int = 1000
    steps: int = 20_000
    times: int = 60
    cycle_rho: float = 0.5


SCALES = {
    "smoke": Settings(seeds=20, steps=500, times=20),
    "cpu": Settings(),
    "paper": Settings(),
}


def parabolas() -> Objective:
    """l_i(w) = a_i (w - b_i)^2 / 2, the batch rows (a_i, b_i) of PARABOLAS."""
    return Objective(
        predict=lambda w, rows: rows[:, 0] * (w - rows[:, 1]) ** 2 / 2,
        loss=lambda outputs, rows: outputs,
    )


def gamma(t: jax.Array) -> jax.Array:
    """The steps of Prop. 2 under (A3), of order 1 / t."""
    return constants.decreasing_steps(t, BETA, MU).gamma


def rho(t: jax.Array, exponent: float) -> jax.Array:
    """(16 beta gamma_t)^p / beta: the same for all p while gamma_t is at its cap."""
    return (16 * BETA * gamma(t)) ** exponent / BETA


def run(settings: Settings) -> Arrays:
    """Mean of L - L* over seeds, and its standard error, [2, times] for every exponent,
    and for both forms on UNEQUAL; |w_t| without noise.
    """
    s = settings
    times = np.unique(np.geomspace(1, s.steps, s.times).astype(int))
    keys = jax.random.split(jax.random.key(0), s.seeds)

    def gaps(
        exponent: float, rows: np.ndarray, rule: ascent.Rule, length: float
    ) -> np.ndarray:
        def one(key):
            gradient = descent.minibatch(
                parabolas(),
                rows,
                key,
                size=1,
                rho=lambda t: length * rho(t, exponent),
                rule=rule,
            )
            return descent.descend(
                gradient, 1.0, step_size=gamma, times=times, observe=jnp.square
            )

        seen = np.asarray(jax.jit(jax.vmap(one))(keys))
        return np.stack([seen.mean(0), seen.std(0, ddof=1) / s.seeds**0.5])

    found = {str(p): gaps(p, PARABOLAS, ascent.unnormalized, 1.0) for p in EXPONENTS}
    found |= {name: gaps(0.5, UNEQUAL, *form) for name, form in FORMS.items()}
    return {
        "times": times,
        **{f"gap_{name}": values for name, values in found.items()},
        **_without_noise(s, times),
    }


def _without_noise(s: Settings, times: np.ndarray) -> Arrays:
    """|w_t| of normalised SAM with steps 1 / (2 sqrt(t + 1)) and a constant radius."""
    found = {"steps": _slow(times)}
    for name in ("fact_1", "fact_2"):
        gradient = descent.full_batch(
            scalars.objective(getattr(scalars, name)),
            scalars.NO_DATA,
            rho=s.cycle_rho,
            rule=ascent.normalized,
        )
        path = jax.jit(_path(gradient, times))(-1.0)
        found[name] = np.abs(np.asarray(path))
    return found


def _slow(t: np.ndarray) -> np.ndarray:
    return 0.5 / (t + 1) ** 0.5


def _path(gradient: descent.Gradient, times: np.ndarray) -> Callable:
    return lambda w: descent.descend(gradient, w, step_size=_slow, times=times)


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Rates over the last decade; normalised against unnormalised."""
    times = arrays["times"]
    late = times > times[-1] / 10
    names = (*map(str, EXPONENTS), *FORMS)
    means = {name: arrays[f"gap_{name}"][0] for name in names}
    slopes = {
        name: float(np.polyfit(np.log(times[late]), np.log(mean[late]), 1)[0])
        for name, mean in means.items()
    }
    for p in EXPONENTS:
        text = f"rho like gamma^{p:g}: rate of E L - L* in T, last decade"
        rate = max(-1.0, -2 * p)
        source = "Sec. 3.2" if p >= 0.5 else "reference derivation"
        yield Claim.close(text, source, rate, slopes[str(p)], 0.15)
        if 0 < p < 0.5:  # "has to be O(sqrt(gamma_t)) to ensure convergence"
            text = f"rho like gamma^{p:g}: E L - L* does not vanish, rate of it near 0"
            holds, low = slopes[str(p)] > -0.15, "> -0.15"
            yield Claim.decided(text, "Sec. 3.2", 0.0, slopes[str(p)], low, holds)
    for name in FORMS:
        text = (
            f"{name}, rho like gamma^0.5, gradients of unequal length: rate of E L - "
        )
        text += "L* in T, last decade"
        yield Claim.close(text, "Sec. 3.2", -1.0, slopes[name], 0.15)
    alike = _alike(arrays)
    yield alike
    expected, (low, high) = fixed_points(), alike.interval
    text = "the same by how far the fixed points of both forms are off, squared, log2"
    yield Claim.decided(
        text,
        "reference derivation",
        expected,
        f"{low:.3g} to {high:.3g}",
        "within",
        low < expected < high,
    )
    for name, words in (("fact_1", "w^2 / 2"), ("fact_2", "the function of Fact II")):
        reach = arrays[name][-1] / (arrays["steps"][-1] * settings.cycle_rho)
        text = f"normalised on {words}, steps like t^-1/2 and a constant rho: last |w| "
        text += "over gamma rho, which falls to 0"
        yield Claim.decided(text, "Sec. 3.2", None, reach, "< 2", bool(reach < 2))


def _alike(arrays: Arrays) -> Claim:
    """Normalised over unnormalised at the last T, by the standard errors of both."""
    ends = [arrays[f"gap_{name}"][:, -1] for name in FORMS]
    plain, normalized = (mean for mean, _ in ends)
    center = float(np.log2(normalized / plain))
    reach = 1.96 * np.hypot(*(error / mean for mean, error in ends)) / np.log(2)
    interval = (center - reach, center + reach)
    return Claim(
        "normalised over unnormalised, rho like gamma^0.5: last E L - L*, log2",
        "Sec. 3.2",
        "comparable",
        f"{center:.3g} (a factor of {2**center:.3g})",
        "-1 to 1",
        statistics.verdict(interval, -1.0, 1.0),
        interval,
    )


def fixed_points() -> float:
    """log2 of the ratio of (E a_i s_i)^2, with s_i the ascent of an example from the
    minimum: its gradient, or one of LENGTH with the same sign.

    At SAM's fixed point the mean of a_i (w - b_i + rho s_i) is 0.
    """
    curvatures, centres = UNEQUAL.T
    gradients = -curvatures * centres
    ascents = np.stack([gradients, LENGTH * np.sign(gradients)])
    plain, normalized = (curvatures * ascents).mean(1)
    return float(2 * np.log2(normalized / plain))


def plot(arrays: Arrays) -> plotting.Figure:
    """L - L* over time for every exponent, and of both forms; |w| without noise."""
    figure, axes = plotting.panels(1, 3, width=4.0, height=3.2)
    times = arrays["times"]
    for p, color in zip(EXPONENTS, plotting.COLORS, strict=False):
        mean = arrays[f"gap_{p}"][0]
        axes[0].plot(times, mean, color=color, label=rf"$\rho \sim \gamma^{{{p:g}}}$")
    for name, style in zip(FORMS, ("-", "--"), strict=True):
        axes[1].plot(times, arrays[f"gap_{name}"][0], style, label=name)
    for name, label in (("fact_1", "$w^2/2$"), ("fact_2", "function of Fact II")):
        axes[2].plot(times, arrays[name], label=label)
    axes[2].plot(times, arrays["steps"], ":", color="gray", label=r"$\gamma_t$")
    titles = (
        "how fast rho falls",
        "gradients of unequal length",
        "normalised, no noise",
    )
    for panel, title in zip(axes, titles, strict=True):
        panel.set(xscale="log", yscale="log", xlabel="T")
        panel.set_title(title, fontsize="medium")
        panel.legend(frameon=False, fontsize="small")
    for panel in axes[:2]:
        panel.set_ylabel(r"mean of $L(w_T) - L^*$")
    axes[2].set_ylabel("|w|")
    return figure
