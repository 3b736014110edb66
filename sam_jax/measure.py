"""`python -m sam_jax.measure --workdir=DIR`: how sharp a trained network is.

Reads a run of `python -m sam_jax.train`, prints worst-case, average and adaptive
sharpness, the largest eigenvalues and the trace of the Hessian, and writes them into
DIR (or --out): sharpness.json, sharpness.npz and sharpness.png, with the Hessian's
spectral density and the loss along and across random directions.

Exit status: 0, or 2 for what is refused.
"""

import argparse
import functools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sam_jax import extras, output, sharpness

with extras.needed_by_command("sam_jax.measure", "train"):
    from sam_jax import plotting
    from sam_jax.analysis import networks, restore
    from sam_jax.training import startup
    from sam_jax.training.errors import TrainingError


EXAMPLES = """\
How sharp a trained network is: the sharpness, eigenvalues, trace and spectral density
of the Hessian, and the loss around the weights, of a run of `python -m sam_jax.train`.

  python -m sam_jax.measure --workdir=/tmp/digits
  python -m sam_jax.measure --workdir=/tmp/digits --m=1 --rho=0.1 --out=/tmp/sharpness

Prints a table, and writes sharpness.json, sharpness.npz and sharpness.png."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what the arguments say; returns the exit status."""
    arguments = parser().parse_args(argv)
    startup.use_compilation_cache()
    try:
        run = restore.read(arguments.workdir)
        epoch = arguments.epoch or run.epochs()[-1]
        out = pathlib.Path(arguments.out or arguments.workdir)
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise ValueError(f"{out} cannot be written; give a directory of --out.")
        figures, arrays = measure_run(run, epoch, arguments)
        output.write_json(out / "sharpness.json", figures)
        output.write_arrays(out / "sharpness.npz", arrays)
        plotting.save(plotting.sharpness(arrays), out / "sharpness.png")
    except (ValueError, TrainingError, OSError) as error:
        print(f"sam_jax.measure: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(output.table(["measure", "value"], rows(figures)))
    print(f"Numbers, arrays and picture: {out}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options, with defaults that take about a minute for a small network."""
    options = argparse.ArgumentParser(
        "python -m sam_jax.measure",
        description=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add("--workdir", required=True, metavar="DIR", help="of the run")
    add("--out", default="", metavar="DIR", help="to write; default: the workdir")
    for name, default, meaning in (
        ("epoch", 0, "of the checkpoint; 0: the newest"),
        ("examples", 256, "training examples to measure on"),
        ("rho", 0.05, "radius of the ball"),
        ("adaptive_rho", 0.5, "radius of the element-wise one"),
        ("m", 64, "examples that share a perturbation"),
        ("ascent_steps", 20, "of the worst case"),
        ("lanczos_steps", 20, "products with the Hessian for its eigenvalues"),
        ("samples", 10, "random directions of a mean"),
        ("points", 15, "along each side of the surface"),
        ("span", 1.0, "half a side, in lengths of filters"),
        ("seed", 0, "of the random directions"),
    ):
        add(
            f"--{name}",
            type=type(default),
            default=default,
            metavar="N" if isinstance(default, int) else "X",
            help=f"{meaning}; default: {default}",
        )
    return options


def measure_run(
    run: restore.Finished, epoch: int, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Everything at one checkpoint: numbers by name, and the arrays of the picture."""
    (state,) = run.states([epoch])
    objective = networks.evaluation_objective(run, state, 0.0)
    batch = networks.training_batch(run, options.examples)
    point = objective, state.params, batch
    keys = jax.random.split(jax.random.key(options.seed), 5)
    figures = {"epoch": epoch, "examples": options.examples}
    figures |= _sharpness(point, keys[0], options)
    steps, samples = options.lanczos_steps, options.samples
    density = sharpness.spectral_density(*point, keys[1], steps=steps, starts=3)
    # A row is filled up with weights of 0 where Lanczos ended early.
    met = density.values[0][density.weights[0] > 0]
    top = np.sort(met)[::-1][:5]
    figures |= {f"eigenvalue {i + 1}": float(value) for i, value in enumerate(top)}
    trace, error = sharpness.trace(*point, keys[2], samples=samples)
    figures |= {"trace": trace, "trace, standard error": error}
    first, second = (sharpness.filter_normalized(k, state.params) for k in keys[3:])
    line = np.linspace(-options.span, options.span, options.points)

    def loss(params):
        return sharpness.evaluate(objective, params, batch).loss

    surface = sharpness.surface(loss, state.params, first, second, line, line)
    arrays = {
        "ritz_values": density.values,
        "ritz_weights": density.weights,
        "line": line,
        "surface": surface,
    }
    return figures, arrays


def _sharpness(
    point: tuple[Any, Any, Any], key: jax.Array, options: argparse.Namespace
) -> dict[str, float]:
    rho, steps, m = options.rho, options.ascent_steps, options.m
    wide = functools.partial(
        sharpness.worst_case, *point, rho=options.adaptive_rho, adaptive=True
    )
    worst = functools.partial(sharpness.worst_case, *point, rho=rho)
    average = functools.partial(
        sharpness.average_case, *point, key, samples=options.samples, on_sphere=True
    )
    met = {
        "one step": worst(method="one_step"),
        "projected ascent": worst(method="projected", steps=steps),
        "apgd": worst(steps=steps),
        f"apgd, m = {m}": worst(steps=steps, m=m),
        "adaptive, apgd": wide(steps=steps),
        "random": average(rho=rho),
        "adaptive, random": average(rho=options.adaptive_rho, adaptive=True),
    }
    at_w = met["one step"]
    figures = {"loss": at_w.loss_at_w, "error": at_w.error_at_w}
    for name, found in met.items():
        figures[f"loss rise, {name}"] = found.loss
        figures[f"error rise, {name}"] = found.error
    return figures


def rows(figures: dict[str, Any]) -> list[list[str]]:
    """Names and values to four digits."""
    return [[name, f"{value:.4g}"] for name, value in figures.items()]


if __name__ == "__main__":
    sys.exit(main())
