"""What every figure and table shares: settings, claims, and a folder of results.

An experiment is a module of this package, found by its file name, which declares

    SOURCE   the figure, table or statement of the paper, "Figure 4"
    SCALES   {"smoke" | "cpu" | "paper": its settings, a flat dataclass}
    X64      True if it computes in float64 (left out: False)
    run      settings -> (arrays by name, list of Claim)
    plot     arrays, as saved -> matplotlib Figure

One that trains networks declares `runs` as well: settings -> its cells by key, which
`experiments.cells` trains in OUT/runs; `run` then takes (settings, trained cells).
Its settings may have `changes` to the keys of its recipe.

smoke takes seconds and shows that it runs; cpu takes minutes on two cores; paper is the
paper's own setting.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
import pkgutil
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np

import experiments
from experiments import cells
from sam_jax import checks, output, plotting
from sam_jax.training import config as configs

Value = float | int | str | None
Arrays = Mapping[str, np.ndarray]
DECLARED = ("SOURCE", "SCALES", "run", "plot")
SCALES = ("smoke", "cpu", "paper")
SETTINGS, ARRAYS, CLAIMS = "settings.json", "arrays.npz", "claims.json"
FIGURE, RUNS = "figure.png", "runs"


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of the paper, or of its correction, against a measurement.

    claim: the statement, in words that say what `holds` confirms or denies.
    source: where it stands, "Fig. 4" or "Prop. 11, corrected".
    paper: the value printed or derived there, or that of an independent run where the
      source says "reference run"; None where there is none.
    measured: the value of this run.
    tolerance: what `measured` may be and still confirm the claim, a number or words.
    holds: whether the measurement confirms the claim.
    """

    claim: str
    source: str
    paper: Value
    measured: Value
    tolerance: Value
    holds: bool

    @classmethod
    def close(
        cls, claim: str, source: str, paper: float, measured: float, tolerance: float
    ) -> "Claim":
        """A claim that holds if |measured - paper| <= tolerance."""
        holds = abs(measured - paper) <= tolerance
        return cls(claim, source, paper, measured, tolerance, holds)

    @classmethod
    def share(cls, claim: str, source: str, holding: np.ndarray) -> "Claim":
        """A claim on every seed, which holds if it is true on 95% of them.

        Args:
          holding: bool, one a seed.
        """
        share = np.mean(holding)
        return cls(claim, source, 1.0, share, ">= 0.95 of seeds", share >= 0.95)

    @classmethod
    def mean(
        cls,
        claim: str,
        source: str,
        paper: float,
        values: np.ndarray,
        *,
        seeds: float = 10,
        slack: float = 0.0,
    ) -> "Claim":
        """A claim that holds if the mean of `values` agrees with one of other seeds.

        Four standard errors of the difference of two means are allowed.

        Args:
          values: one a seed. seeds: how many `paper` is the mean of; inf if exact.
          slack: added to the tolerance, such as the rounding of `paper`.
        """
        spread = values.std(ddof=1) * (1 / seeds + 1 / len(values)) ** 0.5
        return cls.close(claim, source, paper, values.mean(), 4 * spread + slack)


def names() -> list[str]:
    """Names of all experiments: the modules of this package that declare one."""
    return sorted(name for name in _files() if hasattr(_module(name), "SOURCE"))


def load(name: str) -> ModuleType:
    """The module of this experiment; for an unknown name an error that lists them."""
    module = _module(name) if name in _files() else None
    if module is None or not hasattr(module, "SOURCE"):
        raise ValueError(f"Unknown experiment {name!r}; known: {', '.join(names())}.")
    missing = [part for part in DECLARED if not hasattr(module, part)]
    if missing:
        raise ValueError(f"experiments/{name}.py does not declare {missing}.")
    return module


def title(module: ModuleType) -> str:
    """The first line of the experiment's docstring."""
    return (module.__doc__ or module.__name__).splitlines()[0]


def settings(name: str, scale: str) -> dict[str, Any]:
    """The settings of a scale as they are stored: plain JSON values by key."""
    module = load(name)
    chosen = checks.choose("scale", scale, module.SCALES)
    values = json.loads(json.dumps(dataclasses.asdict(chosen)))
    if hasattr(module, "runs"):
        values = {k: v for k, v in values.items() if k not in ("changes", "recipe")}
        values |= common_keys(module.runs(chosen))
    return values


def common_keys(runs: Mapping[cells.Key, cells.Cell]) -> dict[str, Any]:
    """The configuration that all runs share, as {"data.name": "digits", ...}."""
    flat = [configs.flatten(configs.check(cell.config)) for cell in runs.values()]
    shared = {k: v for k, v in flat[0].items() if all(f[k] == v for f in flat)}
    return json.loads(json.dumps(shared))


def execute(name: str, scale: str, out: output.Path) -> list[Claim]:
    """Runs an experiment and writes settings, arrays, claims and figure into `out`.

    Raises: ValueError for an unknown name or scale, for a folder that holds results of
      other settings, and for arrays that are not finite.
    """
    module, out = load(name), pathlib.Path(out)
    record = {"experiment": name, "scale": scale, "settings": settings(name, scale)}
    refuse_other_settings(out, record)
    with jax.enable_x64(getattr(module, "X64", False)):
        arrays, claims = module.run(*_inputs(module, module.SCALES[scale], out))
    out.mkdir(parents=True, exist_ok=True)
    output.write_json(out / SETTINGS, record)
    output.write_arrays(out / ARRAYS, arrays)
    output.write_json(out / CLAIMS, [_plain(claim) for claim in claims])
    draw(name, out)
    return claims


def _inputs(module: ModuleType, chosen: Any, out: pathlib.Path) -> tuple:
    """What `run` takes: settings, and the trained runs of an experiment that has any"""
    if not hasattr(module, "runs"):
        return (chosen,)
    runs = module.runs(chosen)
    return chosen, cells.train(runs, out / RUNS, functools.partial(print, flush=True))


def draw(name: str, out: output.Path) -> None:
    """Draws the figure anew from the arrays saved in `out`."""
    out = pathlib.Path(out)
    with np.load(out / ARRAYS, allow_pickle=False) as saved:
        arrays = dict(saved)
    plotting.save(load(name).plot(arrays), out / FIGURE)


def refuse_other_settings(out: pathlib.Path, record: Mapping[str, Any]) -> None:
    """ValueError that names the differing keys if `out` holds another run's results."""
    path = out / SETTINGS
    if not path.exists():
        return
    there = json.loads(path.read_text())
    if (other := there["experiment"]) != record["experiment"]:
        raise ValueError(
            f"{out} holds results of {other!r}, not of {record['experiment']!r}; give "
            "another --out, or remove the folder."
        )
    if changed := differences(record["settings"], there["settings"]):
        listed = "; ".join(f"{k}: {a} now, {b} there" for k, a, b in changed)
        raise ValueError(
            f"{out} holds results of other settings ({listed}); give another --out, or "
            "remove the folder."
        )


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """(key, our value, their value) wherever two settings differ; '-' for no value."""
    keys = [*ours, *(key for key in theirs if key not in ours)]
    pairs = [(key, ours.get(key, "-"), theirs.get(key, "-")) for key in keys]
    return [(key, a, b) for key, a, b in pairs if a != b]


def table(claims: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Claims as rows of text: claim, source, paper, measured, tolerance, verdict."""
    return [
        [
            claim["claim"],
            claim["source"],
            *(show(claim[key]) for key in ("paper", "measured", "tolerance")),
            "holds" if claim["holds"] else "does not hold",
        ]
        for claim in claims
    ]


def show(value: Value) -> str:
    """A number to four digits, '-' for None."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def _plain(claim: Claim) -> dict[str, Any]:
    """A claim as JSON values; NumPy and JAX scalars become Python's."""
    fields = dataclasses.asdict(claim)
    return {
        key: value.item() if hasattr(value, "item") else value
        for key, value in fields.items()
    }


def _files() -> list[str]:
    found = pkgutil.iter_modules(experiments.__path__)
    return [m.name for m in found if not m.ispkg and m.name != "__main__"]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.{name}")
