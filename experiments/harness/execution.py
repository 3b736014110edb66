"""One experiment from its settings to a folder of results: computed, saved, drawn."""

import functools
import json
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np

from experiments.harness import claims, registry, training
from experiments.harness.claims import Claim
from sam_jax import output, plotting
from sam_jax.training import configuration
from sam_jax.training.keys import KEYS

SETTINGS, ARRAYS, CLAIMS = "settings.json", "arrays.npz", "claims.json"
FIGURE, RUNS = "figure.png", "runs"


def execute(name: str, scale: str, out: output.Path, workers: int = 1) -> list[Claim]:
    """Runs an experiment and writes settings, arrays, claims and figure into `out`.

    Args:
      workers: processes that train its runs side by side. One whose claims compare
        times (TIMED) trains them alone, whatever is asked for.

    Raises: ValueError for an unknown name or scale, for a folder that holds results of
      other settings, and for arrays that are not finite.
    """
    module, out = registry.load(name), pathlib.Path(out)
    settings = registry.settings(name, scale)
    record = {"experiment": name, "scale": scale, "settings": settings}
    refuse_other_settings(out, record)
    with jax.enable_x64(getattr(module, "X64", False)):
        arrays, found = module.run(*_inputs(module, scale, out, workers))
    out.mkdir(parents=True, exist_ok=True)
    output.write_json(out / SETTINGS, record)
    output.write_arrays(out / ARRAYS, arrays)
    output.write_json(out / CLAIMS, [claims.plain(claim) for claim in found])
    draw(name, out)
    return found


def _inputs(module: ModuleType, scale: str, out: pathlib.Path, workers: int) -> tuple:
    """What `run` takes: settings, and the trained runs of an experiment that has any"""
    chosen = module.SCALES[scale]
    if not hasattr(module, "runs"):
        return (chosen,)
    runs = module.runs(chosen)
    report = functools.partial(print, flush=True)
    alone = getattr(module, "TIMED", False)
    workers = 1 if alone else workers
    return chosen, training.train(runs, out / RUNS, report, workers=workers)


def draw(name: str, out: output.Path) -> None:
    """Draws the figure anew from the arrays saved in `out`."""
    out = pathlib.Path(out)
    with np.load(out / ARRAYS, allow_pickle=False) as saved:
        arrays = dict(saved)
    plotting.save(registry.load(name).plot(arrays), out / FIGURE)


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
    """(key, our value, their value) wherever two settings differ; '-' for no value.

    Either may be of an older version, which did without the keys that are newer.
    """
    ours, theirs = _in_todays_keys(ours, theirs), _in_todays_keys(theirs, ours)
    keys = [*ours, *(key for key in theirs if key not in ours)]
    pairs = [(key, ours.get(key, "-"), theirs.get(key, "-")) for key in keys]
    return [(key, a, b) for key, a, b in pairs if a != b]


def _in_todays_keys(
    stored: Mapping[str, Any], others: Mapping[str, Any]
) -> dict[str, Any]:
    """Stored settings, with the defaults of keys of others that are newer than they.

    Settings hold the keys that all runs share: an old key that is missing had different
    values in different runs, and gets no default.
    """
    values = configuration.translate(stored)
    newer = [k for k in others if k in KEYS and k not in values and KEYS[k].since]
    defaults = {key: KEYS[key].default for key in newer}
    return json.loads(json.dumps(defaults)) | values
