"""SAM on test functions against the convergence bounds of App. B, printed or corrected.

A quantity over its bound is at most 1 where the bound holds; where it is false as
printed, a counterexample exceeds 1. Rates are slopes in log-log scale.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import bounds
from experiments.harness.bounds import SHIFTS, START, VARIANCE, follow
from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.theory import constants, corrected
from sam_jax.theory.constants import Constants
from sam_jax.toys import functions, trajectories

SOURCE = "Propositions 2, 9-12, 18 and Lemma 8, App. B"
X64 = True
METHODS = ("SumMax", "MaxSum")


@dataclasses.dataclass(frozen=True)
class Settings:
    """grid: gamma beta and rho beta of the deterministic runs. deterministic: their T.
    seeds: of the stochastic runs. horizons: T of Prop. 2 and 12. decreasing: T under
    (A3), watched at `times` iterations.
    """

    grid: tuple[float, ...] = (0.1, 0.5, 0.9)
    deterministic: int = 60
    seeds: int = 200
    horizons: tuple[int, ...] = (256, 1024, 4096, 16_384)
    decreasing: int = 200_000
    times: int = 60


SCALES = {
    "smoke": Settings(seeds=20, horizons=(256, 512), decreasing=2_000, times=20),
    "cpu": Settings(),
    "paper": Settings(),
}


def run(settings: Settings) -> Arrays:
    """Trajectories beside their bounds."""
    s = settings
    pairs = [(x, y) for x in s.grid for y in s.grid]
    return {
        "step_sizes": np.array(pairs),
        **_under_pl(pairs, s.deterministic),
        **_convex(pairs, s.deterministic),
        **bounds.counterexamples(s.deterministic),
        **_fixed_steps(s),
        **bounds.steep(s.horizons),
        **_decreasing_steps(s),
    }


def _under_pl(pairs: Sequence[tuple[float, float]], steps: int) -> Arrays:
    """Prop. 9 and 10 on x^2 + 3 sin^2 x, [step sizes, T]."""
    f, t = functions.sine_squared(), np.arange(1, steps + 1)
    chosen = [Constants(f.beta, x / f.beta, y / f.beta, f.mu) for x, y in pairs]
    seen = follow(f, START, chosen, steps)
    drop, gap = seen.loss[:, :1] - seen.loss[:, 1:], seen.loss[0, 0]
    nine = [corrected.proposition_9(c, d, t) for c, d in zip(chosen, drop, strict=True)]
    return {
        "prop_9": np.cumsum(seen.gradient2[:, :-1], 1) / t,
        "prop_9_bound": np.stack(nine),
        "prop_10": seen.loss[:, 1:],
        "prop_10_bound": np.stack(
            [corrected.proposition_10(c, gap, t) for c in chosen]
        ),
    }


def _convex(pairs: Sequence[tuple[float, float]], steps: int) -> Arrays:
    """Prop. 11 on sqrt(1 + x^2) - 1, with rho up to 9 / beta, [step sizes, T]."""
    f, w, t = functions.pseudo_huber(), 3 * START, np.arange(1, steps + 1)
    chosen = [Constants(1.0, 2 * x / (1 + 10 * y), 10 * y) for x, y in pairs]
    means = np.cumsum(follow(f, w, chosen, steps).w[:, :-1], 1) / t[:, None]
    bounds = [corrected.proposition_11_loss(c, np.sum(w**2), t) for c in chosen]
    return {
        "prop_11": np.asarray(jax.vmap(jax.vmap(f.value))(jnp.array(means))),
        "prop_11_bound": np.stack(bounds),
    }


def _fixed_steps(s: Settings) -> Arrays:
    """Mean of |grad L|^2 over t < T on 1 - cos with the steps of Prop. 2 and 12,
    [methods, seeds, horizons].
    """
    f, keys = functions.cosine(), jax.random.split(jax.random.key(0), s.seeds)
    last, horizons = max(s.horizons), np.array(s.horizons)

    def mean_square(key, horizon, own):
        steps = constants.slow_steps(f.beta, horizon)
        seen = trajectories.stochastic(
            f,
            START,
            SHIFTS,
            key,
            gamma=steps.gamma,
            rho=steps.rho,
            times=jnp.arange(last),
            own_ascent_batch=own,
        )
        return jnp.sum(seen.gradient2 * (jnp.arange(last) < horizon)) / horizon

    c, gap = Constants(f.beta, variance=VARIANCE), float(f.value(START))
    return {
        "prop_2": _both_methods(mean_square, keys, horizons),
        "prop_2_bound": corrected.proposition_2_gradient(c, gap, horizons),
    }


def _decreasing_steps(s: Settings) -> Arrays:
    """L(w_T) - L* on x^2 + 3 sin^2 x under (A3), [methods, seeds, times]."""
    f, keys = functions.sine_squared(), jax.random.split(jax.random.key(1), s.seeds)
    times = np.unique(np.geomspace(1, s.decreasing, s.times).astype(int))

    def loss(key, _, own):
        return trajectories.stochastic(
            f,
            START,
            SHIFTS,
            key,
            gamma=lambda t: constants.decreasing_steps(t, f.beta, f.mu).gamma,
            rho=lambda t: constants.decreasing_steps(t, f.beta, f.mu).rho,
            times=times,
            own_ascent_batch=own,
        ).loss

    c, gap = Constants(f.beta, mu=f.mu, variance=VARIANCE), float(f.value(START))
    return {
        "times": times,
        "prop_2_loss": _both_methods(loss, keys, np.zeros(1))[:, :, 0],
        "prop_2_loss_bound": corrected.proposition_2_loss(c, gap, times),
    }


def _both_methods(measure: Callable, keys: jax.Array, values: np.ndarray) -> np.ndarray:
    """measure(key, value, own_ascent_batch) over [methods, keys, values]."""
    over_values = jax.vmap(measure, in_axes=(None, 0, None))
    over_keys = jax.vmap(over_values, in_axes=(0, None, None))
    compiled = jax.jit(over_keys, static_argnums=2)
    return np.stack([compiled(keys, jnp.array(values), own) for own in (False, True)])


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Bounds, printed and corrected, and rates."""
    pl = "x^2 + 3 sin^2 x"
    mean_2 = arrays["prop_2"].mean(1)
    mean_loss = arrays["prop_2_loss"].mean(1)
    for text, source, name, value in (
        (f"mean |grad L|^2, {pl}", "Prop. 9, corrected", "prop_9", None),
        (f"L(w_T), {pl}", "Prop. 10", "prop_10", None),
        ("L(mean w), pseudo-Huber", "Prop. 11, corrected", "prop_11", None),
        ("|w_T|^2, counterexample", "Prop. 11, corrected", "distance2", None),
        ("mean |grad L|^2, 1 - cos", "Prop. 2 and 12, corrected", "prop_2", mean_2),
        ("mean |grad L|^2, 5 w^2", "Prop. 2, corrected", "prop_2_steep", None),
        (f"L(w_T), {pl}", "Prop. 2, 12, 18, corrected", "prop_2_loss", mean_loss),
    ):
        measured = arrays[name] if value is None else value
        yield Claim.below(text, source, measured, arrays[f"{name}_bound"])
    for text, source, name in (
        ("|w_T|^2, counterexample", "Prop. 11, printed", "distance2"),
        ("mean |grad L|^2, 5 w^2", "Prop. 2, printed", "prop_2_steep"),
    ):
        yield Claim.below(text, source, arrays[name], arrays[f"{name}_printed"])
    allowed = arrays["ascents"] <= 2
    for source, mask in (("corrected", allowed), ("printed", ~allowed)):
        excess = np.max((arrays["loss_after"] - arrays["loss_printed"])[mask])
        text = "L(w_1) over its bound on w^2 / 2, excess where the condition allows rho"
        holds = bool(excess <= 1e-12)
        yield Claim.decided(text, f"Lemma 8, {source}", "<= 0", excess, "<= 0", holds)
    for method, square, loss in zip(METHODS, mean_2, mean_loss, strict=True):
        slope = _slope(arrays["horizons"], square)
        text = f"{method}: rate of the mean |grad L|^2 in T"
        yield Claim.close(text, "Prop. 2 and 12", -0.5, slope, 0.1)
        late = arrays["times"] > arrays["times"][-1] / 10
        slope = _slope(arrays["times"][late], loss[late])
        text = f"{method}: rate of L(w_T) - L* in T, last decade"
        yield Claim.close(text, "Prop. 2, 12, 18", -1.0, slope, 0.15)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def plot(arrays: Arrays) -> plotting.Figure:
    """Quantities as lines, corrected bounds dashed, printed ones dotted."""
    figure, axes = plotting.panels(4, 2, width=4.4, height=3.0)
    figure.suptitle("dashed: bounds; dotted: as printed", fontsize="medium")
    gradient2 = r"mean $|\nabla L|^2$"
    for panel, name, quantity, title in (
        (axes[0], "prop_9", gradient2, r"Prop. 9: $x^2 + 3\sin^2 x$"),
        (axes[1], "prop_10", r"$L(w_t) - L^*$", r"Prop. 10: $x^2 + 3\sin^2 x$"),
        (axes[2], "prop_11", r"$L(\bar w_T) - L^*$", "Prop. 11: pseudo-Huber"),
    ):
        _plot_deterministic(panel, name, arrays)
        panel.set(yscale="log", xlabel="iteration", ylabel=quantity)
        panel.set_title(title, fontsize="medium")
    axes[1].set_ylim(1e-12, 1e2)
    t = np.arange(1, arrays["prop_10"].shape[1] + 1)
    _plot_counterexamples(axes[3], axes[4], t, arrays)
    steep = arrays["prop_2_steep"], arrays["prop_2_steep_bound"]
    axes[5].plot(arrays["horizons"], steep[0], "o-", label="SAM")
    axes[5].plot(arrays["horizons"], steep[1], "--", color="gray", label="corrected")
    wrong, orange = arrays["prop_2_steep_printed"], plotting.COLORS[1]
    axes[5].plot(arrays["horizons"], wrong, ":", color=orange, label="printed")
    axes[5].set(xscale="log", yscale="log", xlabel="T", ylabel=gradient2)
    axes[5].set_title("Prop. 2 fails as printed: $5 w^2$", fontsize="medium")
    for panel, x, name, quantity, title in (
        (axes[6], "horizons", "prop_2", gradient2, r"Prop. 2 and 12: $1 - \cos$"),
        (axes[7], "times", "prop_2_loss", r"$L(w_T) - L^*$", "Prop. 2, 12 under (A3)"),
    ):
        for runs, label, color in zip(
            arrays[name], METHODS, plotting.COLORS, strict=False
        ):
            plotting.band(panel, arrays[x], runs, label=label, color=color)
        bound = arrays[f"{name}_bound"]
        panel.plot(arrays[x], bound, "--", color="gray", label="bound")
        panel.set(xscale="log", yscale="log", xlabel="T", ylabel=quantity)
        panel.set_title(title, fontsize="medium")
    for panel in axes:
        panel.legend(frameon=False, fontsize="small")
    return figure


def _plot_deterministic(panel: plotting.Axes, name: str, arrays: Arrays) -> None:
    """Three pairs of step sizes, each with its bound."""
    t = np.arange(1, arrays[name].shape[1] + 1)
    for i, color in zip((0, 4, 8), plotting.COLORS, strict=False):
        s, a = arrays["step_sizes"][i]
        if name == "prop_11":
            s, a = 2 * s / (1 + 10 * a), 10 * a
        label = rf"$\gamma\beta$ = {s:.2g}, $\rho\beta$ = {a:g}"
        panel.plot(t, arrays[name][i], color=color, label=label)
        panel.plot(t, arrays[f"{name}_bound"][i], "--", color=color)


def _plot_counterexamples(
    distance: plotting.Axes, loss: plotting.Axes, t: np.ndarray, arrays: Arrays
) -> None:
    distance.plot(t, arrays["distance2"], label="SAM")
    bound, wrong = arrays["distance2_bound"], arrays["distance2_printed"]
    distance.plot(t, bound, "--", color="gray", label="corrected bound")
    distance.plot(t, wrong, ":", color=plotting.COLORS[1], label="printed bound")
    distance.set(yscale="log", xlabel="iteration", ylabel=r"$|w_t - w^*|^2$")
    distance.set_title("Prop. 11 fails as printed", fontsize="medium")
    ascents = arrays["ascents"]
    loss.plot(ascents, arrays["loss_after"], label=r"$L(w_1)$")
    allowed = ascents <= 2
    bound = arrays["loss_printed"]
    loss.plot(ascents[allowed], bound[allowed], "--", color="gray", label="corrected")
    loss.plot(ascents, bound, ":", color=plotting.COLORS[1], label="printed")
    loss.axhline(0.5, color="gray", linewidth=0.8)
    loss.set(xlabel=r"$\rho\beta$", ylabel="loss after one step")
    loss.set_title(r"Lemma 8 on $w^2/2$, $\gamma\beta = 1/2$", fontsize="medium")
