"""`python -m experiments.sweep --recipe=digits:sam --values=.1,.2,.3 --out=DIR`.

Trains a recipe with several values of one key (rho, by default) and several seeds, and
prints the errors of each value: the best value is the one of least error on the noisy
validation set. A rho found for one network is far off for another: sweep it anew.
"""

import argparse
import ast
import importlib
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from sam_jax import results
from sam_jax.training import loop, startup
from sam_jax.training.config import ConfigError
from sam_jax.training.errors import TrainingError

FIGURES = ("validation_error_best", "test_error_best", "test_error_last")


def sweep(
    recipe: str,
    key: str,
    values: Sequence[Any],
    seeds: Sequence[int],
    out: pathlib.Path,
) -> str:
    """Trains every value with every seed; returns the table."""
    module, _, variant = recipe.partition(":")
    rows = []
    for value in values:
        summaries = []
        for seed in seeds:
            config = importlib.import_module(f"configs.{module}").get_config(variant)
            config.update_from_flattened_dict({key: value, "seed": seed})
            summaries.append(loop.run(config, out / f"{key}={value}" / f"seed={seed}"))
        rows.append([str(value), *(spread([s[f] for s in summaries]) for f in FIGURES)])
    header = [key, *(name.replace("_error_", ", ") for name in FIGURES)]
    return results.table(header, rows)


def spread(errors: Sequence[float]) -> str:
    """Mean and, of several, standard deviation over seeds: "12.3 % +- 0.4"."""
    mean = results.percent(float(np.mean(errors)))
    return f"{mean} +- {100 * np.std(errors, ddof=1):.1f}" if len(errors) > 1 else mean


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments, and ends with one line for what cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--recipe", default="digits:sam", help="NAME:VARIANT of configs/"
    )
    parser.add_argument("--key", default="sam.rho", help="key that takes the values")
    parser.add_argument("--values", required=True, help="separated by commas")
    parser.add_argument("--seeds", default="0", help="separated by commas")
    parser.add_argument("--out", required=True, help="directory to write")
    arguments = parser.parse_args(argv)
    startup.use_compilation_cache()
    values = [ast.literal_eval(text) for text in arguments.values.split(",")]
    seeds = [int(text) for text in arguments.seeds.split(",")]
    try:
        out = pathlib.Path(arguments.out)
        print(sweep(arguments.recipe, arguments.key, values, seeds, out))
    except (ConfigError, TrainingError, OSError) as error:
        sys.exit(f"experiments.sweep: {error}")


if __name__ == "__main__":
    main()
