"""Methods against each other: each over its rho grid and the same seeds.

What is saved for a method `key`, over rho, seeds and evaluated epochs: key_rho f[R];
key_validation, key_best, key_last and the like f[R, S], errors as fractions; key_curve
and the like f[R, S, E]; and "epoch", "seeds" once. A method's rho is the one of least
mean error on the noisy validation set, each run's best epoch the one of least too.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments import cells
from experiments.frame import Arrays, Claim
from sam_jax import plotting

FIGURES = {
    "validation": "validation_error_best",
    "best": "test_error_best",
    "last": "test_error_last",
    "noisy": "train_noisy_error_last",
}
CURVES = {"curve": "test_error"}


@dataclasses.dataclass(frozen=True)
class Method:
    """key: of its arrays. label: in figures and claims. config: without rho and seed.
    rho: its grid; () for a method that has none.
    """

    key: str
    label: str
    config: ConfigDict
    rho: Sequence[float] = ()

    @property
    def values(self) -> list[float]:
        """The grid, with one value where rho means nothing."""
        return list(self.rho) or [self.config.sam.rho]


def runs(
    methods: Iterable[Method], seeds: Sequence[int]
) -> dict[cells.Key, cells.Cell]:
    """One run a method, rho and seed."""
    return {
        (method.key, rho, seed): cells.Cell(
            cells.changed(method.config, {"sam.rho": rho, "seed": seed})
        )
        for method in methods
        for rho in method.values
        for seed in seeds
    }


def collect(
    methods: Sequence[Method],
    seeds: Sequence[int],
    trained: Mapping[cells.Key, cells.Trained],
    *,
    figures: Mapping[str, str] = FIGURES,
    curves: Mapping[str, str] = CURVES,
) -> Arrays:
    """The arrays of all methods.

    Args:
      figures, curves: name of an array -> name in a run's summary, or in its records.
        Figures that no run has, such as those of noisy examples, are left out.
    """
    arrays: dict[str, np.ndarray] = {"seeds": np.asarray(seeds)}
    whole = max(trained.values(), key=lambda run: len(run.curve("test_error")))
    evaluated = [r["epoch"] for r in whole.history if "test_error" in r]
    arrays["epoch"] = np.array(evaluated)
    for method in methods:
        axes = [method.key], method.values, seeds
        arrays[f"{method.key}_rho"] = np.array(method.values, float)
        for name, figure in figures.items():
            if figure in whole.summary:
                values = cells.table(trained, figure, *axes)
                arrays[f"{method.key}_{name}"] = values[0]
        for name, curve in curves.items():
            arrays[f"{method.key}_{name}"] = np.array(
                [
                    [
                        _padded(
                            trained[method.key, rho, seed].curve(curve),
                            len(whole.curve(curve)),
                        )
                        for seed in seeds
                    ]
                    for rho in method.values
                ]
            )
    return arrays


def chosen(arrays: Arrays, key: str, name: str) -> np.ndarray:
    """An array of a method at its rho by validation, f[S] or f[S, E]."""
    return arrays[f"{key}_{name}"][index(arrays, key)]


def index(arrays: Arrays, key: str) -> int:
    """Which rho validation chooses for a method."""
    return int(cells.select(arrays[f"{key}_validation"]))


def rho(arrays: Arrays, key: str) -> float:
    """The rho that validation chooses for a method."""
    return float(arrays[f"{key}_rho"][index(arrays, key)])


def spread(errors: np.ndarray) -> str:
    """Mean and deviation over seeds, in %."""
    text = f"{100 * np.mean(errors):.1f}"
    return f"{text} ± {100 * np.std(errors, ddof=1):.1f}" if len(errors) > 1 else text


def lower(
    text: str,
    source: str,
    paper: str | None,
    better: np.ndarray,
    worse: np.ndarray,
    *,
    margin: float = 0.0,
) -> Claim:
    """The claim that the errors `better` are below `worse`, on average over seeds.

    Args:
      better, worse: errors of the same seeds, f[S].
      margin: by how much, >= 0; or, if negative, how much above they may be.
    """
    count = int(np.sum(better <= worse - margin))
    measured = (
        f"{spread(better)} against {spread(worse)}; {count} of {len(better)} seeds"
    )
    words = f"lower by {100 * margin:g} points" if margin else "lower mean"
    if margin < 0:
        words = f"at most {-100 * margin:g} points above"
    return Claim(
        f"{text} (%)",
        source,
        paper,
        measured,
        words,
        bool(np.mean(better) < np.mean(worse) - margin),
    )


def draw_curves(
    axes: plotting.Axes,
    arrays: Arrays,
    methods: Mapping[str, str],
    name: str = "curve",
    *,
    title: str = "",
    ylabel: str = "test error (%)",
    percent: bool = True,
) -> None:
    """Means over seeds and bands, of each method at its rho, over epochs.

    Args:
      methods: key -> label.
      percent: whether the curve is a fraction, to be drawn in %.
    """
    for i, (key, label) in enumerate(methods.items()):
        curve = (100 if percent else 1) * chosen(arrays, key, name)
        if len(arrays[f"{key}_rho"]) > 1:
            label = f"{label}, rho = {rho(arrays, key):g}"
        color = plotting.COLORS[i % len(plotting.COLORS)]
        plotting.band(axes, arrays["epoch"], curve, label=label, color=color)
    axes.set(xlabel="epoch", ylabel=ylabel, title=title)
    if percent:
        axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.legend(frameon=False, fontsize="small")


def draw_grid(
    axes: plotting.Axes,
    arrays: Arrays,
    methods: Mapping[str, str],
    name: str = "best",
    *,
    ylabel: str,
) -> None:
    """Error over rho of each method; a method without rho is a horizontal line."""
    for i, (key, label) in enumerate(methods.items()):
        values, errors = arrays[f"{key}_rho"], 100 * arrays[f"{key}_{name}"]
        color = plotting.COLORS[i % len(plotting.COLORS)]
        if len(values) == 1:
            axes.axhline(errors.mean(), color=color, linestyle="--", label=label)
            continue
        plotting.band(axes, values, errors.T, label=label, color=color, marker=".")
        at = index(arrays, key)
        axes.plot(values[at], errors[at].mean(), "o", color=color)
    axes.set(xlabel="rho", ylabel=ylabel, xscale="log")
    ticks = sorted({float(v) for key in methods for v in arrays[f"{key}_rho"]})
    axes.set_xticks(ticks, [f"{v:g}" for v in ticks], rotation=60, fontsize="small")
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")


def draw_bars(
    axes: plotting.Axes,
    arrays: Arrays,
    methods: Mapping[str, str],
    name: str = "best",
    *,
    ylabel: str = "test error, best by validation (%)",
) -> None:
    """A bar a method, with every seed as a point."""
    for i, key in enumerate(methods):
        errors = 100 * chosen(arrays, key, name)
        color = plotting.COLORS[i % len(plotting.COLORS)]
        axes.bar(i, errors.mean(), color=color, alpha=0.4)
        axes.plot(np.full(len(errors), i), errors, ".", color=color)
    axes.set_xticks(range(len(methods)), methods.values(), rotation=20, ha="right")
    axes.set(ylabel=ylabel)


def _padded(curve: np.ndarray, length: int) -> np.ndarray:
    """A failed run's curve goes on with errors of 1."""
    return np.concatenate([curve, np.ones(length - len(curve))])
