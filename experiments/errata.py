"""The nine errata of the paper, each with what refutes its printed form.

Counterexamples in one or two dimensions, with the corrected form beside the printed
one: docs/theory.md tells them. `implicit_bias`, `facts`, `convergence` and `lemmas`
test the statements in full.
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import bounds
from experiments.harness.claims import Arrays, Claim
from sam_jax import flows, plotting
from sam_jax.core import ascent
from sam_jax.flows import fields, networks
from sam_jax.theory import printed
from sam_jax.theory.constants import Constants
from sam_jax.toys import descent, functions, scalars

SOURCE = "Nine errata"
X64 = True
KINDS = {"max_sum": "MaxSum", "sum_max": "SumMax"}
X, Y = np.array([[1.0, 0.5], [2.0, 1.0]]), np.array([1.0, 2.0])  # one line of solutions
WEIGHTS = np.linspace(0.1, 1.5, 57)
AT, OTHER = 0.7, 0.2  # w_+ and w_- of erratum 1
PRINTED_MEAN = 0.0149


@dataclasses.dataclass(frozen=True)
class Settings:
    """alpha, rho: of the flows. steps: of Fact II and of the deterministic bounds.
    horizons: T of Prop. 2. decreasing: T under (A3). seeds, horizon: of Prop. 18.
    """

    alpha: float = 0.5
    rho: float = 0.4
    steps: tuple[int, int] = (12, 60)
    horizons: tuple[int, ...] = (256, 1024, 4096, 16_384)
    decreasing: int = 1600
    seeds: int = 200
    horizon: int = 1000


SCALES = {
    "smoke": Settings(horizons=(256, 512), decreasing=400, seeds=10, horizon=50),
    "cpu": Settings(),
    "paper": Settings(),
}


def run(settings: Settings) -> Arrays:
    """What each panel shows."""
    s = settings
    uphill = Constants(1.0, 1.0, 2.0)  # beta, gamma, rho: 1 (2 - 2) <= 2, as printed
    step = bounds.follow(functions.quadratic([1.0]), np.ones(1), [uphill], 1)
    failing = bounds.counterexamples(s.steps[1])
    return {
        **_tangents(),
        **_flows(s),
        "fact_2": _fact_2(s.steps[0]),
        "uphill": np.append(step.w[0, :, 0], 1 + uphill.rho),
        "uphill_printed": np.array(printed.lemma_8_convex(uphill, 0.5, 1.0)),
        **failing,
        **bounds.steep(s.horizons),
        **bounds.printed_constant(s.decreasing),
        **bounds.fixed_steps("prop_18", s.seeds, s.horizon),
    }


def _tangents() -> Arrays:
    """The loss along w_+ for x = y = 1, its slope by differences and by the core."""
    network = networks.create("squares")
    examples = networks.Examples(jnp.ones((1, 1)), jnp.ones(1))

    def loss(plus):
        params = network.layers(np.array([plus]), np.array([OTHER]))
        return network.objective.value(params, examples)

    params = network.layers(np.array([AT]), np.array([OTHER]))
    slope = fields.gradient(network, params, examples, rho=0.0, m=1).gradient.plus[0]
    width = 1e-5
    difference = (loss(AT + width) - loss(AT - width)) / (2 * width)
    return {
        "tangent_losses": np.array([loss(w) for w in WEIGHTS]),
        "tangent_loss": np.asarray(loss(AT)),
        "tangent_slopes": np.array([difference, slope, slope / 2]),
    }


def _flows(s: Settings) -> Arrays:
    """Paths of the flows in the plane of beta, [kinds, rhos 0 and rho, times, 2], and
    the minimisers for the corrected and the printed scale, [kinds, forms, 2].
    """
    paths, minima = [], []
    for kind in KINDS:
        rhos = np.array([0.0, s.rho])
        solved = flows.solve(X, Y, alpha=s.alpha, rho=rhos, kind=kind)
        shrunk = solved.delta[1] * np.array([[1.0], [0.25]])  # printed: a quarter of it
        scales = s.alpha * np.exp(-s.rho * shrunk)
        paths.append(solved.betas)
        minima.append(flows.minimize_potential(X, Y, scales).beta)
    return {"paths": np.stack(paths), "minima": np.stack(minima)}


def _fact_2(steps: int) -> np.ndarray:
    """Iterates of normalised SAM with gamma = rho = 1 from -1."""
    gradient = descent.full_batch(
        scalars.objective(scalars.fact_2),
        scalars.NO_DATA,
        rho=1.0,
        rule=ascent.normalized,
    )
    times = np.arange(steps)
    return np.asarray(
        jax.jit(lambda w: descent.descend(gradient, w, step_size=1.0, times=times))(
            -1.0
        )
    )


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """That each printed form fails where the corrected one holds."""
    difference, slope, half = arrays["tangent_slopes"]
    misses = abs(half / difference - 1), abs(slope / difference - 1)
    yield _claim(1, "relative error of the slope", *misses, 1e-6)
    for i, kind in enumerate(KINDS.values()):
        end, size = arrays["paths"][i, 1, -1], np.linalg.norm(arrays["minima"][i, 0])
        corrected, wrong = np.linalg.norm(arrays["minima"][i] - end, axis=1) / size
        text = f"relative distance from the end of {kind}'s flow to the minimiser"
        yield _claim(2 + i, text, wrong, corrected, 1e-4)
    mean = arrays["fact_2"].mean()
    text = "mean of the iterates less the stated one"
    yield _claim(4, text, mean - PRINTED_MEAN, mean - 15, 1e-9)
    excess = arrays["loss_after"] - arrays["loss_printed"]
    uphill = arrays["uphill"][1] ** 2 / 2 - arrays["uphill_printed"]
    allowed = arrays["ascents"] <= 2
    text = "loss after a step less its bound"
    yield _claim(5, text, uphill, excess[allowed].max(), 1e-12)
    for i, name in ((6, "distance2"), (7, "prop_2_steep"), (8, "flat")):
        forms = (arrays[f"{name}_printed"], arrays[f"{name}_bound"])
        ratios = (np.max(arrays[name] / bound) for bound in forms)
        yield _claim(i, "greatest ratio to the bound", *ratios, 1 + 1e-9)
    bounds = (arrays[f"prop_18_{form}"].mean(0) for form in ("printed", "bound"))
    rises = (bound[-1] / bound.min() for bound in bounds)
    text = "bound at the last T over the least bound before"
    yield _claim(9, text, *rises, 1 + 1e-9)


def _claim(
    number: int, text: str, wrong: float, corrected: float, limit: float
) -> Claim:
    holds = bool(corrected <= limit < wrong)
    return Claim.decided(
        f"{number}: {text}",
        f"erratum {number}",
        None,
        f"{corrected:.3g} corrected, {wrong:.3g} printed",
        f"corrected <= {limit:.3g} < printed",
        holds,
    )


def plot(arrays: Arrays) -> plotting.Figure:
    """A panel for each: what is true blue, corrected gray, printed orange."""
    figure, axes = plotting.panels(3, 3, width=3.0, height=2.7)
    _plot_tangents(axes[0], arrays)
    for i, kind in enumerate(KINDS.values()):
        _plot_flows(axes[1 + i], arrays["paths"][i], arrays["minima"][i])
        axes[1 + i].set_title(
            f"{2 + i}. Prop. {4 + i}: {kind}'s end", fontsize="medium"
        )
    _plot_fact_2(axes[3], arrays["fact_2"])
    _plot_uphill(axes[4], arrays)
    t = np.arange(1, len(arrays["distance2"]) + 1)
    _plot_bounds(axes[5], t, "distance2", arrays)
    axes[5].set(title="6. Prop. 11", yscale="log", ylabel=r"$|w_T - w^*|^2$")
    _plot_bounds(axes[6], arrays["horizons"], "prop_2_steep", arrays)
    axes[6].set(title="7. Prop. 2: first constant", xscale="log", yscale="log")
    _plot_bounds(axes[7], np.arange(1, len(arrays["flat"]) + 1), "flat", arrays)
    axes[7].set(title="8. Prop. 2 under (A3)", xscale="log", yscale="log")
    axes[7].set(ylabel=r"$L(w_T) - L^*$")
    means = {k: arrays[k].mean(0) for k in arrays if k.startswith("prop_18")}
    _plot_bounds(axes[8], arrays["prop_18_steps"], "prop_18", means)
    axes[8].set(title="9. Prop. 15 and 18: noise", xscale="log", yscale="log")
    for panel in axes[6], axes[8]:
        panel.set_ylabel(r"mean $|\nabla L|^2$")
    for panel in axes:
        panel.title.set_fontsize("medium")
        if panel is not axes[2]:  # its lines are those of the panel before
            panel.legend(frameon=False, fontsize="small")
    axes[1].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


TRUE, PRINTED = plotting.COLORS[:2]


def _plot_bounds(panel: plotting.Axes, t: np.ndarray, name: str, arrays: Arrays):
    panel.plot(t, arrays[name], color=TRUE, label="SAM")
    panel.plot(t, arrays[f"{name}_bound"], "--", color="gray", label="corrected")
    panel.plot(t, arrays[f"{name}_printed"], ":", color=PRINTED, label="printed")
    panel.set_xlabel("T")


def _plot_tangents(panel: plotting.Axes, arrays: Arrays) -> None:
    _, slope, half = arrays["tangent_slopes"]
    panel.plot(WEIGHTS, arrays["tangent_losses"], color=TRUE, label="loss")
    near = np.array([AT - 0.35, AT + 0.35])
    for rise, style, color, label in (
        (slope, "--", "gray", r"slope with $1/n$"),
        (half, ":", PRINTED, r"with $1/(2n)$, printed"),
    ):
        line = arrays["tangent_loss"] + rise * (near - AT)
        panel.plot(near, line, style, color=color, label=label)
    panel.plot(AT, arrays["tangent_loss"], "o", color=TRUE)
    panel.set(title="1. Gradient (App. A)", xlabel=r"$w_+$", ylabel="loss")


def _plot_flows(panel: plotting.Axes, paths: np.ndarray, minima: np.ndarray) -> None:
    first = np.array([0.5, 1.0])
    line = np.stack([first, (Y[0] - X[0, 0] * first) / X[0, 1]])
    panel.plot(*line, color="lightgray", label=r"$X\beta = y$")
    panel.plot(*paths[0].T, color="gray", linewidth=1, label="gradient flow")
    panel.plot(*paths[1].T, color=TRUE, label="SAM's flow")
    panel.plot(*minima[0], "o", color="gray", mfc="none", ms=10, label="corrected")
    panel.plot(*minima[1], "x", color=PRINTED, label="printed")
    panel.set(xlabel=r"$\beta_1$", ylabel=r"$\beta_2$", ylim=(-0.05, 1.6))


def _plot_fact_2(panel: plotting.Axes, iterates: np.ndarray) -> None:
    panel.plot(iterates, "o-", color=TRUE, label="SAM")
    panel.axhline(iterates.mean(), color="gray", linestyle="--", label="its mean")
    label = f"{PRINTED_MEAN}, printed"
    panel.axhline(PRINTED_MEAN, color=PRINTED, linestyle=":", label=label)
    panel.set(title="4. Fact II", xlabel="iteration", ylabel="w", ylim=(-4, 55))
    panel.set_xticks(range(0, len(iterates), 4))


def _plot_uphill(panel: plotting.Axes, arrays: Arrays) -> None:
    start, end, above = arrays["uphill"]
    w = np.linspace(-3.2, 3.2, 65)
    panel.plot(w, w**2 / 2, color="lightgray")
    for point, mark, label in ((start, "o", "$w_0$"), (above, "^", "ascent point")):
        panel.plot(point, point**2 / 2, mark, color="gray", label=label)
    panel.plot(end, end**2 / 2, "o", color=TRUE, label="$w_1$")
    bound = arrays["uphill_printed"]
    panel.axhline(bound, color=PRINTED, linestyle=":", label="bound, printed")
    panel.set(title="5. Lemma 8: uphill", xlabel="w", ylabel="loss", ylim=(-0.4, 8))
