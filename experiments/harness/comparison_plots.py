"""Pictures of a comparison: errors over epochs, over rho, and at one epoch."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness import comparison
from experiments.harness.claims import Arrays
from sam_jax import plotting


def draw_curves(
    axes: plotting.Axes,
    arrays: Arrays,
    methods: Mapping[str, str],
    name: str = "curve",
    *,
    title: str = "",
    ylabel: str = "test error (%)",
    percent: bool = True,
    linestyle: str = "-",
    since: Mapping[str, float] | None = None,
    legend: bool = True,
) -> None:
    """Means over seeds and bands, of each method at its rho, over epochs.

    Args:
      methods: key -> label.
      percent: whether the curve is a fraction, to be drawn in %.
      since: key -> the epoch until which the method is another one, which it would
        hide; it is drawn from there, dashed.
    """
    for i, (key, label) in enumerate(methods.items()):
        shown = arrays["epoch"] >= (since or {}).get(key, 0)
        curve = comparison.chosen(arrays, key, name)[:, shown]
        curve = (100 if percent else 1) * curve
        if len(arrays[f"{key}_rho"]) > 1:
            label = f"{label}, rho = {comparison.rho(arrays, key):g}"
        color = plotting.COLORS[i % len(plotting.COLORS)]
        style = "--" if key in (since or {}) else linestyle
        line = {"label": label, "color": color, "linestyle": style}
        plotting.band(axes, arrays["epoch"][shown], curve, **line)
    axes.set(xlabel="epoch", ylabel=ylabel, title=title)
    if percent:
        axes.set_ylim(bottom=0)
    axes.margins(x=0)
    if legend:
        axes.legend(frameon=False, fontsize="small")


def zoom(
    axes: plotting.Axes, arrays: Arrays, methods: Iterable[str], since: float
) -> None:
    """Limits a picture of test errors from below all bands to above most of where they
    are after an epoch; a title says so where something lies above.
    """
    shown = arrays["epoch"] >= axes.get_xlim()[0]
    curves = [comparison.chosen(arrays, key, "curve")[:, shown] for key in methods]
    low, high = 100 * np.percentile(curves, (10, 90), axis=1)
    late = arrays["epoch"][shown] >= min(since, arrays["epoch"][-1])
    top, bottom = np.percentile(high[:, late], 95), low.min()
    top, bottom = top + 0.1 * (top - bottom), bottom - 0.2 * (top - bottom)
    axes.set_ylim(max(bottom, 0), max(top, 1.0))
    if high.max() > top:
        axes.set_title(f"{axes.get_title()}, cut above".removeprefix(", "))


def draw_spread(axes: plotting.Axes, x: float, values: np.ndarray, **look: Any) -> None:
    """The mean of values f[S] at x, and a bar from their 10th to 90th percentile."""
    mean = values.mean()
    reach = np.abs(np.percentile(values, (10, 90)) - mean)[:, None]
    axes.errorbar([x], [mean], reach, fmt="o", capsize=3, **look)


MOST_TICKS = 8  # values of rho that are written below an axis


def draw_grid(
    axes: plotting.Axes,
    arrays: Arrays,
    methods: Mapping[str, str],
    name: str = "best",
    *,
    ylabel: str,
) -> None:
    """Error over rho of each method; a method without rho is a horizontal line.

    Over the seeds with runs of every rho; the point that is chosen, over all of them.
    Errors of more than twice the largest of these lie above the picture.
    """
    most = 0.0
    for i, (key, label) in enumerate(methods.items()):
        values, errors = arrays[f"{key}_rho"], 100 * arrays[f"{key}_{name}"]
        color = plotting.COLORS[i % len(plotting.COLORS)]
        at = comparison.index(arrays, key)
        most = max(most, float(errors[at].mean()))
        if len(values) == 1:
            axes.axhline(errors.mean(), color=color, linestyle="--", label=label)
            continue
        every = errors[:, : comparison.tried(arrays, key)].T
        plotting.band(axes, values, every, label=label, color=color, marker=".")
        axes.plot(values[at], errors[at].mean(), "o", color=color)
    axes.set(ylabel=ylabel)
    set_radii(axes, (float(v) for key in methods for v in arrays[f"{key}_rho"]))
    axes.set_ylim(0, min(axes.get_ylim()[1], 2 * most))
    axes.legend(frameon=False, fontsize="small")


def curves_and_grid(arrays: Arrays, methods: Mapping[str, str]) -> plotting.Figure:
    """Test error over epochs, and the best epoch's over rho."""
    figure, (curves, grid) = plotting.panels(1, 2)
    draw_curves(curves, arrays, methods)
    draw_grid(grid, arrays, methods, ylabel="test error, best epoch (%)")
    return figure


def set_radii(axes: plotting.Axes, radii: Iterable[float]) -> None:
    """A logarithmic axis of rho, on which the values of a grid are written."""
    axes.set(xlabel="rho", xscale="log")
    ticks = sorted(set(radii))
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks, [f"{v:g}" for v in ticks], rotation=60, fontsize="small")
        axes.minorticks_off()


def draw_bars(
    axes: plotting.Axes,
    arrays: Arrays,
    methods: Mapping[str, str],
    name: str = "best",
    *,
    ylabel: str = "test error, best by validation (%)",
    cycle: int = len(plotting.COLORS),
) -> None:
    """A bar a method, with every seed as a point.

    Args:
      cycle: after so many methods the colours come again, hatched.
    """
    for i, key in enumerate(methods):
        errors = 100 * comparison.chosen(arrays, key, name)
        color = plotting.COLORS[i % cycle]
        hatch = "//" if i >= cycle else None
        axes.bar(i, errors.mean(), color=color, alpha=0.4, hatch=hatch)
        axes.plot(np.full(len(errors), i), errors, ".", color=color)
    axes.set_xticks(range(len(methods)), methods.values(), rotation=20, ha="right")
    axes.set(ylabel=ylabel)


def draw_errors(
    axes: plotting.Axes,
    errors: Mapping[str, np.ndarray],
    labels: Sequence[str],
    xlabel: str,
) -> None:
    """A line of points for every method, its seeds, and a stroke at their mean.

    Args:
      errors: by method, f[S]. labels: of the lines, from above.
    """
    for i, values in enumerate(errors.values()):
        color = plotting.COLORS[i % len(plotting.COLORS)]
        axes.plot(values, np.full(len(values), i), ".", color=color)
        axes.vlines(values.mean(), i - 0.4, i + 0.4, color=color)
    axes.set_yticks(range(len(errors)), labels)
    axes.set(xlabel=xlabel, ylim=(len(errors) - 0.4, -0.6))


def draw_correlations(
    axes: plotting.Axes, found: np.ndarray, labels: Mapping[str, str]
) -> None:
    """Kendall's tau of every measure with its interval.

    Args:
      found: tau and the ends of its interval, f[measures, 3]. labels: of the measures.
    """
    places = range(len(found))
    tau, low, high = found.T
    axes.hlines(places, low, high, color=plotting.COLORS[0])
    axes.plot(tau, places, "o", color=plotting.COLORS[0])
    axes.axvline(0, color="gray", linewidth=0.8)
    axes.set_yticks(places, [textwrap.fill(words, 18) for words in labels.values()])
    axes.set(xlabel="rank correlation (tau)", xlim=(-1, 1))
    axes.invert_yaxis()
