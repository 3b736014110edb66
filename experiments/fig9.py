"""GD, MaxSum, SumMax and their stochastic versions on a diagonal linear network.

Sparse regression with d = 30, n = 20, |beta*|_0 = 3. All methods reach zero training
loss; SumMax and the stochastic methods do so later, and at sparser predictors. The step
sizes are gamma = rho = 1 / L with L the largest per-example smoothness at beta*, which
keeps every method stable; the paper does not say which L it means. The slowest method,
SumMax SGD, is also followed ten times as far on twenty of the problems. Full scale, 1e6
iterations of six methods on a hundred problems, takes some ten minutes on two cores.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.harness import telling
from experiments.harness.claims import Arrays, Claim
from sam_jax import flows, plotting
from sam_jax.flows import fields
from sam_jax.toys import sparse_regression

SOURCE = "Figure 9"
X64 = True
METHODS = ("ERM", "MaxSum", "SumMax", "SGD", "MaxSum SGD", "SumMax SGD")
KINDS = fields.KINDS
SLOWEST, LONGER = METHODS[5:], 10  # times as many iterations, on the FIRST problems
# Geometric means of the last test loss at 1e6 iterations over the first 20 problems, by
# an independent NumPy loop, with two digits.
FIRST = 20
REFERENCE = {
    "product": (7.5e-6, 8.6e-6, 1.0e-6, 2.8e-6, 3.0e-6, 2.5e-7),
    "squares": (2.3e-5, 2.6e-5, 3.9e-6, 9.6e-6, 1.0e-5, 9.4e-7),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """seeds: enough to tell a share of .61 from one half. parametrization: "product",
    started at (alpha, 0), or "squares".
    """

    seeds: int = 100
    iterations: int = 1_000_000
    alpha: float = 0.01
    parametrization: str = "product"


SCALES = {
    "smoke": Settings(seeds=2, iterations=1000),
    "cpu": Settings(),
    "paper": Settings(),
}


def run(settings: Settings) -> Arrays:
    """Test and training losses of the six methods, [methods, seeds, times]; those of
    SLOWEST over LONGER times as many iterations, as long_test and so on.
    """
    longer = dataclasses.replace(
        settings,
        seeds=min(settings.seeds, FIRST),
        iterations=LONGER * settings.iterations,
    )
    long = trajectories(longer, SLOWEST)
    found = {f"long_{name}": values for name, values in long.items()}
    return {**trajectories(settings, METHODS), **found}


def trajectories(settings: Settings, names: Sequence[str]) -> Arrays:
    """times, log-spaced, and losses there: test, train [methods, seeds, times]."""
    data = sparse_regression.sample(range(settings.seeds))
    step = 1 / flows.smoothness(data.x, data.beta)
    times = flows.log_times(settings.iterations)
    weight = {"product": 1 / 2, "squares": 1 / 4}[settings.parametrization]
    test, train = [], []
    for name in telling.each(names, "trajectories"):
        index = METHODS.index(name)
        method = flows.Method(
            kind=KINDS[index % 3],
            parametrization=settings.parametrization,
            batch_size=1 if index >= 3 else None,
        )
        iterates = flows.iterate(
            data.x,
            data.y,
            method,
            times=times,
            alpha=settings.alpha,
            step_size=step,
            rho=step,
        )
        target = data.beta[:, None]
        test.append(sparse_regression.test_loss(iterates.betas, target, weight))
        train.append(iterates.losses)
    return {"times": times, "test": np.asarray(test), "train": np.asarray(train)}


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The last losses of the six methods, and how the training loss decays."""
    yield from against_reference(settings, arrays, METHODS)
    last, train = (
        dict(zip(METHODS, arrays[name][:, :, -1], strict=True))
        for name in ("test", "train")
    )
    stochastic = list(zip(METHODS[3:], METHODS[:3], strict=True))
    for better, worse in [("SumMax", "ERM"), ("SumMax", "MaxSum"), *stochastic]:
        text = f"last test loss: {better} below {worse}"
        yield Claim.share(text, "Fig. 9", last[better] < last[worse])
    others = [loss for name, loss in last.items() if name != METHODS[5]]
    text = f"last test loss: {METHODS[5]} below all others"
    yield Claim.share(text, "Fig. 9", last[METHODS[5]] < np.min(others, axis=0))
    yield same_as_erm(last["ERM"], last["MaxSum"], "Fig. 9")
    for slower, faster in [("SumMax", "ERM"), *stochastic]:
        text = f"last training loss: {slower} above {faster}"
        yield Claim.share(text, "Fig. 9", train[slower] > train[faster])
    for name, better in zip(METHODS, _decays_linearly(arrays), strict=True):
        text = f"{name}: the late training loss is nearer to exp(-a t) than to t^-p"
        yield Claim.share(text, "Fig. 9", better)
    (better,) = _decays_linearly({k: arrays[f"long_{k}"] for k in ("times", "train")})
    text = f"{METHODS[5]}, {LONGER} times as many iterations: nearer to exp(-a t)"
    yield Claim.share(text, "target", better)


def against_reference(
    settings: Settings, arrays: Arrays, names: Sequence[str]
) -> Iterator[Claim]:
    """The last test losses against those of the reference, at its own settings."""
    chosen = dataclasses.replace(SCALES["paper"], parametrization="squares")
    if settings not in (SCALES["paper"], chosen):
        return
    values = dict(zip(METHODS, REFERENCE[settings.parametrization], strict=True))
    for name, test in zip(names, arrays["test"], strict=True):
        mean = np.log10(test[:FIRST, -1]).mean()
        text = f"{name}: log10 of the last test loss, mean, {FIRST} problems"
        yield Claim.close(text, "reference run", np.log10(values[name]), mean, 0.05)


def same_as_erm(erm: np.ndarray, max_sum: np.ndarray, source: str) -> Claim:
    """MaxSum against ERM by a ratio, to a quarter of it."""
    ratio = np.log2(max_sum / erm)
    text = "last test loss of MaxSum over that of ERM, the same to a quarter: log2"
    words, within = f"{ratio.mean():.3f} (a factor of {2 ** ratio.mean():.3g})", 0.32
    return Claim.mean(
        text, source, "the same", ratio, low=-within, high=within, measured=words
    )


def _decays_linearly(arrays: Arrays) -> np.ndarray:
    """Whether a line in t fits the logarithm of the training loss between T / 4 and T
    better than one in log t, [methods, seeds]. "At linear rate" is the former.

    Losses within a hundred times of what rounding leaves, 1e-30, are left out.
    """
    times, losses = arrays["times"], arrays["train"]

    def left(x: np.ndarray, y: np.ndarray) -> float:
        line = np.polynomial.Polynomial.fit(x, y, 1)
        return float(np.sum((line(x) - y) ** 2))

    better = np.empty(losses.shape[:2], bool)
    for index in np.ndindex(better.shape):
        some = losses[index] > 1e-28
        late = some & (times >= times[some][-1] / 4)
        t, y = times[late], np.log(losses[index][late])
        better[index] = left(t, y) < left(np.log(t), y)
    return better


def plot(arrays: Arrays) -> plotting.Figure:
    """Test loss on the left, training loss on the right, over iterations."""
    return draw(arrays, METHODS)


def draw(arrays: Arrays, names: Sequence[str]) -> plotting.Figure:
    """A line a method, dashed where it is stochastic, in a band over seeds."""
    figure, axes = plotting.panels(1, 2, width=4.6, height=3.4)
    past = arrays["times"] >= 1
    for panel, quantity in zip(axes, ("test", "train"), strict=True):
        for name, losses in zip(names, arrays[quantity], strict=True):
            index = METHODS.index(name)
            # ERM is drawn first and wide: MaxSum lies on it.
            width = 4.0 if index % 3 == 0 else 1.5
            plotting.band(
                panel,
                arrays["times"][past],
                np.maximum(losses[:, past], 1e-40),
                geometric=True,
                label=name,
                color=plotting.COLORS[index % 3],
                linestyle="--" if index >= 3 else "-",
                linewidth=width,
            )
        panel.set(xscale="log", yscale="log", xlabel="number of iterations")
    axes[0].set_ylabel("test loss")
    axes[1].set_ylabel("training loss")
    axes[0].legend(frameon=False, fontsize="small", loc="lower left", handlelength=4)
    return figure
