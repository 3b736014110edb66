"""Three facts on normalised SAM: it cycles, it shifts the mean, it can be stuck.

Fact II is false as printed, with gamma = rho = 1: the iterates go -1, 31, -1, ... of
mean 15. The printed mean of 0.0149 belongs to a step size near 0.043. What the fact
concludes, that the mean is sharper than the minimum, stands for steps up to 0.3 (with
0.5 the iterates land on the minimum by accident).
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.core import ascent
from sam_jax.toys import descent, scalars

SOURCE = "Facts I-III, App. B.3"
X64 = True
PRINTED_MEAN = 0.0149


@dataclasses.dataclass(frozen=True)
class Settings:
    """rho, start: of Facts I, II, III. gammas: step sizes of Facts I and III.
    small_gammas: from, to and number of the step sizes of Fact II beside gamma = 1.
    steps: of Facts I and III, and of Fact II, whose second half is averaged.
    """

    rho: tuple[float, float, float] = (0.5, 1.0, 1.0)
    start: tuple[float, float, float] = (2.0, -1.0, 1.0)
    gammas: tuple[float, ...] = (0.1, 0.5, 1.0)
    small_gammas: tuple[float, float, int] = (0.005, 0.3, 60)
    steps: tuple[int, int] = (200, 20_000)


SCALES = {
    "smoke": Settings(small_gammas=(0.02, 0.06, 9), steps=(200, 4_000)),
    "cpu": Settings(),
    "paper": Settings(),
}


def run(settings: Settings) -> Arrays:
    """Iterates of the three functions, and their means over step sizes."""
    s, gammas = settings, np.array(settings.gammas)
    grid = np.linspace(*s.small_gammas)
    small = _iterates(scalars.fact_2, s.start[1], s.rho[1], grid, s.steps[1])
    points = jnp.array([0.0, PRINTED_MEAN])
    few, one = s.steps[0], np.ones(1)
    return {
        "gammas": gammas,
        "radii": scalars.cycle_radius(gammas, s.rho[0]),
        "fact_1": _iterates(scalars.fact_1, s.start[0], s.rho[0], gammas, few),
        "fact_1_unnormalized": _iterates(
            scalars.fact_1, s.start[0], s.rho[0], gammas, few, ascent.unnormalized
        ),
        "fact_2": _iterates(scalars.fact_2, s.start[1], s.rho[1], one, 20)[0],
        "small_gammas": grid,
        "fact_2_means": small[:, s.steps[1] // 2 :].mean(1),
        "fact_2_sharpness": np.asarray(
            scalars.sharpness(scalars.fact_2, points, s.rho[1])
        ),
        "fact_3": _iterates(scalars.fact_3, s.start[2], s.rho[2], gammas, few),
    }


def _iterates(
    function: Callable,
    start: float,
    rho: float,
    gammas: np.ndarray,
    steps: int,
    rule: ascent.Rule = ascent.normalized,
) -> np.ndarray:
    """w_0, ..., w_T for every step size, [gammas, T + 1]."""
    gradient = descent.full_batch(
        scalars.objective(function), scalars.NO_DATA, rho=rho, rule=rule
    )

    def one(gamma):
        times = jnp.arange(steps + 1)
        return descent.descend(gradient, start, step_size=gamma, times=times)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.array(gammas)))


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Facts I-III, as printed and as corrected."""
    ends = np.abs(arrays["fact_1"][:, -2:]) / arrays["radii"][:, None]
    text = "I: |w| of the last iterates over gamma rho / (2 - gamma), furthest from 1"
    furthest = ends.flat[np.abs(ends - 1).argmax()]
    yield Claim.close(text, "Fact I", 1.0, furthest, 1e-6)
    last = np.abs(arrays["fact_1_unnormalized"][:, -1]).max()
    text = "I: unnormalised SAM converges, |w| of its last iterate"
    yield Claim.close(text, "Fact I", 0.0, last, 1e-6)

    text = "II as printed: mean of the iterates with gamma = rho = 1"
    mean = arrays["fact_2"][:20].mean()
    yield Claim.close(text, "Fact II, printed", PRINTED_MEAN, mean, 1e-4)
    text = "II: with gamma = rho = 1 the iterates go -1, 31, -1, ... of this mean"
    yield Claim.close(text, "Fact II, corrected", 15.0, mean, 1e-9)
    text = f"II: step size whose mean is the printed {PRINTED_MEAN}"
    grid, means = arrays["small_gammas"], arrays["fact_2_means"]
    gamma = np.interp(PRINTED_MEAN, means[:20], grid[:20])
    yield Claim.close(text, "Fact II, corrected", 0.043, gamma, 5e-4)
    for point, paper, value in zip(
        (0, PRINTED_MEAN), (0.5, 0.515), arrays["fact_2_sharpness"], strict=True
    ):
        yield Claim.close(f"II: S({point})", "Fact II", paper, value, 5e-4)
    text = "II: least mean over small step sizes, which is sharper than 0 if positive"
    yield Claim.decided(text, "Fact II", "> 0", means.min(), "> 0", means.min() > 0)

    moved = np.abs(arrays["fact_3"] - arrays["fact_3"][:, :1]).max()
    text = "III: greatest distance from w = rho, where the slope is -rho"
    yield Claim.close(text, "Fact III", 0.0, moved, 0.0)


def plot(arrays: Arrays) -> plotting.Figure:
    """Iterates of each fact, and the means of Fact II over step sizes."""
    figure, axes = plotting.panels(2, 2, width=4.4, height=3.2)
    gammas = arrays["gammas"]
    for i, color in zip(range(len(gammas)), plotting.COLORS, strict=False):
        label = rf"$\gamma$ = {gammas[i]:g}"
        sizes = np.abs(arrays["fact_1"][i])
        t = np.arange(len(sizes))
        axes[0].plot(t, sizes, color=color, label=label)
        axes[0].axhline(arrays["radii"][i], color=color, linestyle=":")
        plain = np.abs(arrays["fact_1_unnormalized"][i])
        axes[0].plot(t[plain > 0], plain[plain > 0], "--", color=color, alpha=0.6)
        width = 6 - 2 * i  # the lines lie on one another
        stays = arrays["fact_3"][i][:30]
        axes[3].plot(stays, color=color, label=label, linewidth=width)
    axes[0].plot([], [], ":", color="gray", label=r"$\gamma\rho / (2 - \gamma)$")
    axes[0].plot([], [], "--", color="gray", label="unnormalised")
    axes[0].set(yscale="log", ylim=(1e-4, 4), xlim=(0, 100), ylabel="|w|")
    axes[0].set_title("I: $w^2/2$", fontsize="medium")
    axes[1].plot(arrays["fact_2"], "o-", color=plotting.COLORS[0], label="iterates")
    mean = arrays["fact_2"][:20].mean()
    axes[1].axhline(mean, color=plotting.COLORS[1], label=f"their mean, {mean:g}")
    axes[1].set(ylabel="w", ylim=(-4, 44))
    axes[1].set_title(r"II: $\gamma = \rho = 1$", fontsize="medium")
    axes[2].plot(arrays["small_gammas"], arrays["fact_2_means"], label="mean of w")
    axes[2].axhline(
        PRINTED_MEAN, color="gray", linestyle=":", label=f"printed, {PRINTED_MEAN}"
    )
    axes[2].set(yscale="log", xlabel=r"step size $\gamma$", ylabel="mean of w")
    axes[2].set_title(r"II: smaller steps, $\rho = 1$", fontsize="medium")
    axes[3].set(ylim=(0, 1.5), ylabel="w")
    axes[3].set_title(r"III: $-w^2/2$ from $w = \rho$", fontsize="medium")
    for panel in axes:
        panel.legend(frameon=False, fontsize="small")
        if panel is not axes[2]:
            panel.set_xlabel("iteration")
    return figure
