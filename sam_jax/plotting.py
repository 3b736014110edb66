"""Arrays in, Figure out: the only place that knows matplotlib."""

import io
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sam_jax import extras, output

with extras.needed("sam_jax.plotting", "train"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator
    from PIL import Image  # matplotlib brings it

# Okabe and Ito's palette, told apart by colour-blind readers too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BANDS = "lines: means over seeds; bands: 10th to 90th percentile"

Curves = Mapping[str, ArrayLike]


def training_curves(runs: Mapping[str, Curves]) -> Figure:
    """Training loss (logarithmic) and test error over epochs, one line a run.

    Args:
      runs: label -> arrays of one length: epoch, train_loss, test_error (a fraction)
        and, where there is one, best_epoch: a number, marked on the test error.
    """
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    for color, (label, run) in zip(_colors(len(runs)), runs.items(), strict=True):
        epochs = np.asarray(run["epoch"])
        loss.plot(epochs, run["train_loss"], color=color, label=label)
        test = 100 * np.asarray(run["test_error"])
        error.plot(epochs, test, color=color, label=label)
        if "best_epoch" in run:
            best = epochs == run["best_epoch"]
            error.plot(epochs[best], test[best], "o", color=color)
    _label(loss, "training loss")
    _label(error, "test error (%)")
    loss.set_yscale("log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_locator(NullLocator())
    error.set_ylim(bottom=0)
    if any("best_epoch" in run for run in runs.values()):
        error.plot([], [], "o", color="gray", label="best by validation")
    error.legend(frameon=False)
    return figure


def panels(
    rows: int = 1, columns: int = 1, *, width: float = 4.0, height: float = 3.2
) -> tuple[Figure, list[Axes]]:
    """A figure of rows x columns panels, and their axes row by row.

    Args:
      width, height: of one panel, in inches.
    """
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def band(
    axes: Axes, x: ArrayLike, runs: ArrayLike, *, geometric: bool = False, **line: Any
) -> None:
    """The mean over runs as a line, in a band from the 10th to the 90th percentile.

    The figure says so below its panels.

    Args:
      x: [points]. runs: [runs, points].
      geometric: the geometric mean, for positive runs on a logarithmic axis.
      line: color, label, ... of the line.
    """
    runs = np.asarray(runs)
    mean = np.exp(np.log(runs).mean(0)) if geometric else runs.mean(0)
    (drawn,) = axes.plot(x, mean, **line)
    low, high = np.percentile(runs, [10, 90], axis=0)
    color = drawn.get_color()
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.figure.supxlabel(BANDS, x=1, ha="right", fontsize="x-small", color="gray")


def sharpness(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Spectral density of the Hessian; the loss along a direction, and on a plane.

    Args:
      arrays: ritz_values, ritz_weights [starts, k]; line [p] and surface [p, p], the
        loss at these multiples of two directions.
    """
    figure, (density, along, plane) = panels(1, 3)
    values, weights = arrays["ritz_values"].ravel(), arrays["ritz_weights"].ravel()
    weights = weights / len(arrays["ritz_values"])
    density.vlines(values, 1e-8, np.maximum(weights, 1e-8), color=COLORS[0])
    density.set(yscale="log", xscale="symlog", ylim=(1e-6, 1.5))
    density.set(xlabel="eigenvalue of the Hessian", ylabel="share of the spectrum")
    line, surface = arrays["line"], arrays["surface"]
    middle = len(line) // 2
    for color, cut, label in zip(
        COLORS, (surface[:, middle], surface[middle]), ("first", "second"), strict=False
    ):
        along.plot(line, cut, color=color, label=f"{label} direction")
    along.set(xlabel="lengths of filters", ylabel="loss")
    along.set_ylim(bottom=0)
    along.legend(frameon=False)
    drawn = plane.contourf(line, line, surface.T, levels=20)
    figure.colorbar(drawn, ax=plane, label="loss")
    plane.set(xlabel="first direction", ylabel="second direction")
    return figure


def heat_map(
    axes: Axes,
    values: ArrayLike,
    rows: Mapping[str, Any],
    columns: Mapping[str, Any],
) -> None:
    """Numbers as colours with the numbers in them.

    Args:
      values: [rows, columns]. rows, columns: {name of the axis: its labels}.
    """
    values = np.asarray(values)
    image = axes.imshow(values, aspect="auto", cmap="viridis_r")
    axes.figure.colorbar(image, ax=axes)
    for setter, name in ((axes.set_yticks, rows), (axes.set_xticks, columns)):
        (labels,) = name.values()
        setter(range(len(labels)), [str(label) for label in labels])
    axes.set(ylabel=next(iter(rows)), xlabel=next(iter(columns)))
    middle = (values.min() + values.max()) / 2
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            color = "white" if value > middle else "black"
            axes.text(j, i, f"{value:.1f}", ha="center", va="center", color=color)


def save(
    figure: Figure, path: str | os.PathLike[str], *, colors: int | None = None
) -> None:
    """Writes a PNG atomically.

    Args:
      colors: of its palette, up to 256, for a file of about a third of the size; None
        for all there are.
    """
    content = png(figure, dpi=150)
    if colors is not None:
        file = io.BytesIO()
        with Image.open(io.BytesIO(content)) as image:
            image.convert("RGB").quantize(colors).save(file, "PNG", optimize=True)
        content = file.getvalue()
    output.write_atomic(path, lambda file: file.write(content))


def png(figure: Figure, dpi: int = 90) -> bytes:
    """The figure as a PNG in memory, for a notebook."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # It warns by the time that passes, on a busy machine for little data, too.
        warnings.filterwarnings("ignore", 'Creating legend with loc="best" can be slow')
        figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def _colors(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _label(axes: Axes, quantity: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0)
