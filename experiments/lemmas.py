"""One step of SAM against the lemmas of App. B, many against Prop. 6, 15 and 18.

The lemmas at many points, noises and step sizes, with expectations over all batches
taken exactly; the propositions along trajectories. What `convergence` has is not
repeated here.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from experiments.harness import bounds
from experiments.harness.bounds import FULL, ONE, OWN, START, follow
from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.theory import corrected
from sam_jax.theory.constants import Constants
from sam_jax.toys import functions, trajectories

SOURCE = "Propositions 6, 15, 18 and Lemmas 7, 8, 13, 14, 16, 17, App. B"
X64 = True
FUNCTIONS = {
    "quadratic": functions.quadratic([0.3, 2.0]),
    "x^2 + 3 sin^2 x": functions.sine_squared(),
    "1 - cos": functions.cosine(),
    "pseudo-Huber": functions.pseudo_huber(),
}
SMOOTH = ("quadratic", "x^2 + 3 sin^2 x", "1 - cos")
CONVEX = ("quadratic", "pseudo-Huber")
ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Lemma:
    """source: its number, and whether it is corrected.
    bound: (constants, loss, gradient2) -> bound on the loss after a step from above;
      (constants, gradient2) -> bound on the inner product from below.
    of_loss: which of the two. batches: of ascent and descent.
    caps: greatest gamma beta, for the rho beta of a point, and rho beta.
    on: names of FUNCTIONS.
    """

    source: str
    bound: Callable
    of_loss: bool
    batches: str
    caps: tuple[Callable[[np.ndarray], float | np.ndarray], float]
    on: Sequence[str] = SMOOTH

    @property
    def key(self) -> str:
        """The name of its array."""
        return self.source.replace(",", "").replace(" ", "_").lower()

    @property
    def text(self) -> str:
        """What it says, in words."""
        loss = "E L(w - gamma g) is at most its bound"
        product = "E <g, grad L(w)> is at least its bound"
        on = f" on {' and '.join(self.on)}" if self.on == CONVEX else ""
        return f"{self.batches}{on}: {loss if self.of_loss else product}"


def _smooth(c: Constants, gradient2: np.ndarray) -> np.ndarray:
    return corrected.lemma_7(c, gradient2, -c.beta)


def _convex(c: Constants, gradient2: np.ndarray) -> np.ndarray:
    """Strongly so by c.mu."""
    return corrected.lemma_7(c, gradient2, c.mu)


def _one(_: np.ndarray) -> float:
    return 1.0


def _half(_: np.ndarray) -> float:
    return 0.5


def _second_part(a: np.ndarray) -> np.ndarray:
    return 2 / (2 + a)


LEMMAS = (
    Lemma("Lemma 7", _smooth, False, FULL, (_one, 3)),
    Lemma("Lemma 8, first part", corrected.lemma_8, True, FULL, (_one, 3)),
    Lemma("Lemma 13", corrected.lemma_13, False, OWN, (_one, 3)),
    Lemma("Lemma 14", corrected.lemma_14, True, OWN, (_half, 1 / 2)),
    Lemma("Lemma 16", corrected.lemma_16, False, ONE, (_one, 3)),
    Lemma("Lemma 17, corrected", corrected.lemma_17, True, ONE, (_one, 1 / 4)),
    Lemma("Lemma 7, convex", _convex, False, FULL, (_one, 3), CONVEX),
    Lemma(
        "Lemma 8, second part, corrected",
        corrected.lemma_8_convex,
        True,
        FULL,
        (_second_part, 3),
        CONVEX,
    ),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """points: of each lemma on each function. grid: gamma beta and rho beta of Prop. 6.
    deterministic: its T, and that of the ascents. ascents: rho beta of the runs that
    start beside a maximum. seeds, horizon: of Prop. 15 and 18. decreasing: T of the
    steps under (A3).
    """

    points: int = 4000
    grid: tuple[float, ...] = (0.1, 0.5, 0.9)
    deterministic: int = 60
    ascents: tuple[float, ...] = (0.5, 0.9, 1.1, 2.0)
    seeds: int = 200
    horizon: int = 1000
    decreasing: int = 1600


SCALES = {
    "smoke": Settings(points=50, seeds=10, horizon=50),
    "cpu": Settings(),
    "paper": Settings(),
}


def run(settings: Settings) -> Arrays:
    """The slack of every lemma, and trajectories beside their bounds."""
    s, rng = settings, np.random.default_rng(0)
    return {
        **{lemma.key: _slack(lemma, s.points, rng) for lemma in LEMMAS},
        **_proposition_6(s),
        **_beside_a_maximum(s),
        **bounds.fixed_steps("prop_15", s.seeds, s.horizon),
        **bounds.fixed_steps("prop_18", s.seeds, s.horizon),
        **bounds.printed_constant(s.decreasing),
    }


def _slack(lemma: Lemma, points: int, rng: np.random.Generator) -> np.ndarray:
    """By how much a lemma's bound is kept, [functions, points].

    In units of |grad L|^2 + variance, times gamma for bounds on the loss. Points and
    noises are uniform in [-6, 6]^2, step sizes up to their caps.
    """
    found = []
    for name in lemma.on:
        f, (cap, longest) = FUNCTIONS[name], lemma.caps
        starts, directions = rng.uniform(-6, 6, (2, points, 2))
        s, a = rng.uniform(0, 1, points), rng.uniform(0, longest, points)
        s = s * cap(a)
        half = np.stack([1.1 * directions, directions], 1) * (lemma.batches != FULL)
        shifts = np.concatenate([half, -half], 1)
        variance = (shifts**2).sum(-1).mean(-1)
        gamma, rho = s / f.beta, a / f.beta
        follow = _expected_steps(name, lemma.batches == OWN)
        step = follow(starts, shifts, gamma, rho)
        loss, gradient2, aligned, after = map(np.asarray, step)
        kept = []
        for i in range(points):
            c = Constants(f.beta, gamma[i], rho[i], f.strong or 0.0, variance[i])
            if lemma.of_loss:
                bound = lemma.bound(c, loss[i], gradient2[i])
                kept.append((bound - after[i]) / c.gamma)
            else:
                kept.append(aligned[i] - lemma.bound(c, gradient2[i]))
        found.append(np.array(kept) / (gradient2 + variance))
    return np.stack(found)


@functools.cache
def _expected_steps(name: str, own: bool) -> Callable:
    """(w, shifts, gamma, rho), each with a leading axis of points -> their steps."""

    def step(w, shifts, gamma, rho):
        return trajectories.expected_step(
            FUNCTIONS[name], w, shifts, gamma=gamma, rho=rho, own_ascent_batch=own
        )

    return jax.jit(jax.vmap(step))


def _proposition_6(s: Settings) -> Arrays:
    """Both parts of Prop. 6 on x^2 + 3 sin^2 x, [step sizes, T]."""
    f, t = functions.sine_squared(), np.arange(1, s.deterministic + 1)
    pairs = [(x, y) for x in s.grid for y in s.grid]
    chosen = [Constants(f.beta, x / f.beta, y / f.beta, f.mu) for x, y in pairs]
    seen = follow(f, START, chosen, s.deterministic)
    gap = float(seen.loss[0, 0])
    gradient, loss = corrected.proposition_6_gradient, corrected.proposition_6_loss
    return {
        "step_sizes": np.array(pairs),
        "prop_6": np.cumsum(seen.gradient2[:, :-1], 1) / t,
        "prop_6_bound": np.stack([gradient(c, gap, t) for c in chosen]),
        "prop_6_loss": seen.loss[:, 1:],
        "prop_6_loss_bound": np.stack([loss(c, gap, t) for c in chosen]),
    }


def _beside_a_maximum(s: Settings) -> Arrays:
    """L(w_t) on 1 - cos from beside its maximum, [rho beta, T + 1]."""
    chosen = [Constants(1.0, 0.5, a) for a in s.ascents]
    start = np.array([np.pi - 0.3])
    seen = follow(functions.cosine(), start, chosen, s.deterministic)
    return {"ascents": np.array(s.ascents), "ascent_losses": seen.loss}


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Every lemma at its worst point, the propositions, and what they need."""
    for lemma in LEMMAS:
        slack = arrays[lemma.key]
        text = f"{lemma.text}: least slack of {slack.size} points, over |grad L|^2"
        text += " + variance" * (lemma.batches != FULL)
        holds = bool(slack.min() >= -ROUNDING)
        yield Claim.decided(text, lemma.source, ">= 0", slack.min(), ">= 0", holds)
    pl = "x^2 + 3 sin^2 x"
    for text, source, name in (
        (f"mean |grad L|^2, {pl}", "Prop. 6", "prop_6"),
        (f"L(w_T) - L*, {pl}", "Prop. 6", "prop_6_loss"),
        ("L(w_T) - L*, quadratic", "Prop. 2, 12, 18 under (A3), corrected", "flat"),
    ):
        yield Claim.below(text, source, arrays[name], arrays[f"{name}_bound"])
    text, bound = "L(w_T) - L*, quadratic", arrays["flat_printed"]
    source = "Prop. 18 under (A3), printed"
    yield Claim.below(text, source, arrays["flat_wide"], bound)
    ratio = float(np.max(arrays["flat"] / bound))
    text = f"{text}, steps of at most 1 / (16 beta): the printed constant fails, "
    text += "greatest ratio to it"
    yield Claim.decided(text, "control", None, ratio, "> 1", ratio > 1)
    yield from _fixed_claims(arrays)
    yield from _maximum_claims(arrays)


def _fixed_claims(arrays: Arrays) -> Iterator[Claim]:
    """Prop. 15 and 18 at their last T, over seeds."""
    for name, source in (("prop_15", "Prop. 15"), ("prop_18", "Prop. 18")):
        steps, received = arrays[f"{name}_steps"][-1], arrays[name][:, -1]
        for form in ("bound", "printed"):
            bound = arrays[f"{name}_{form}"][:, -1]
            excess = (received - bound) / bound.mean()
            words = f"{received.mean():.3g} against {bound.mean():.3g}"
            text = f"mean E |grad L|^2 over T = {steps} less its bound, over the bound"
            kind = "printed" if form == "printed" else "corrected"
            yield Claim.mean(
                text, f"{source}, {kind}", "<= 0", excess, high=0, measured=words
            )


def _maximum_claims(arrays: Arrays) -> Iterator[Claim]:
    """SAM with rho < 1 / beta leaves a maximum; with more it runs into it."""
    for a, losses in zip(arrays["ascents"], arrays["ascent_losses"], strict=True):
        falls = bool(losses[-1] < losses[0])
        text = f"1 - cos from beside its maximum, rho beta = {a:g}: the loss "
        text += "falls" if a < 1 else "rises: rho < 1 / beta cannot be left out"
        words = f"{losses[0]:.3g} to {losses[-1]:.3g}"
        expected = "falls" if a < 1 else "rises"
        yield Claim.decided(
            text, "Prop. 6, condition", expected, words, expected, falls == (a < 1)
        )


def plot(arrays: Arrays) -> plotting.Figure:
    """Slack of the lemmas; trajectories, with bounds dashed and printed ones dotted."""
    figure, axes = plotting.panels(3, 2, width=4.4, height=3.0)
    figure.suptitle(
        "of trajectories, dashed: bounds; dotted: as printed", fontsize="medium"
    )
    styles = {FULL: ":", ONE: "-", OWN: "--"}
    for i, lemma in enumerate(LEMMAS):
        slack = np.sort(arrays[lemma.key].ravel())
        share = np.arange(1, len(slack) + 1) / len(slack)
        alike = sum(other.batches == lemma.batches for other in LEMMAS[:i])
        line = {"linestyle": styles[lemma.batches], "color": plotting.COLORS[alike]}
        axes[0].plot(np.maximum(slack, 1e-6), share, label=lemma.source, **line)
    axes[0].set(xscale="log", xlabel="slack", ylabel="share of points below")
    axes[0].set_title("lemmas: by how much they hold", fontsize="medium")
    _plot_proposition_6(axes[1], "prop_6", r"mean $|\nabla L|^2$", arrays)
    _plot_proposition_6(axes[2], "prop_6_loss", r"$L(w_T) - L^*$", arrays)
    _plot_fixed_steps(axes[3], arrays)
    runs = zip(arrays["ascents"], arrays["ascent_losses"], strict=True)
    for (a, losses), color in zip(runs, plotting.COLORS, strict=False):
        axes[4].plot(losses, color=color, label=rf"$\rho\beta$ = {a:g}")
    axes[4].set(xlabel="iteration", ylabel="L", ylim=(0, 2.1))
    axes[4].set_title(r"$1 - \cos$ from beside its maximum", fontsize="medium")
    t, orange = np.arange(1, len(arrays["flat"]) + 1), plotting.COLORS[1]
    axes[5].plot(t, arrays["flat"], label="SAM")
    axes[5].plot(t, arrays["flat_bound"], "--", color="gray", label="corrected bound")
    axes[5].plot(t, arrays["flat_printed"], ":", color=orange, label="printed bound")
    axes[5].set(xscale="log", yscale="log", xlabel="T", ylabel=r"$L(w_T) - L^*$")
    axes[5].set_title("Prop. 2 under (A3), quadratic", fontsize="medium")
    for panel in axes:
        panel.legend(frameon=False, fontsize="small")
    return figure


def _plot_proposition_6(
    panel: plotting.Axes, name: str, quantity: str, arrays: Arrays
) -> None:
    t = np.arange(1, arrays[name].shape[1] + 1)
    for i, color in zip((0, 4, 8), plotting.COLORS, strict=False):
        s, a = arrays["step_sizes"][i]
        label = rf"$\gamma\beta$ = {s:g}, $\rho\beta$ = {a:g}"
        panel.plot(t, np.maximum(arrays[name][i], 1e-12), color=color, label=label)
        panel.plot(t, arrays[f"{name}_bound"][i], "--", color=color)
    panel.set(yscale="log", xlabel="T", ylabel=quantity)
    panel.set_title(r"Prop. 6: $x^2 + 3\sin^2 x$", fontsize="medium")


def _plot_fixed_steps(panel: plotting.Axes, arrays: Arrays) -> None:
    labels = {"prop_15": "MaxSum, Prop. 15", "prop_18": "one batch, Prop. 18"}
    for (name, label), color in zip(labels.items(), plotting.COLORS, strict=False):
        steps = arrays[f"{name}_steps"]
        panel.plot(steps, arrays[name].mean(0), color=color, label=label)
        for form, style in (("bound", "--"), ("printed", ":")):
            bound = arrays[f"{name}_{form}"].mean(0)
            panel.plot(steps, bound, style, color=color)
    panel.set(xscale="log", yscale="log", xlabel="T", ylabel=r"mean $|\nabla L|^2$")
    panel.set_title("fixed steps: printed noise grows with T", fontsize="medium")
