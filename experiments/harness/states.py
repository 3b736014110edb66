"""What an experiment costs, and what of it is done: a line of `experiments list`."""

import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.harness import execution, registry
from experiments.harness.runs import FAILURE
from sam_jax.training.progress import duration

EXPLANATION = """\
cost: networks to train, or one computation; and how long all of it took, where its
results say so. state: the scales that are done; or how many runs are finished of an
experiment that goes on by the same command. `run NAME --dry_run` says more of one."""

Records = Mapping[str, list[tuple[pathlib.Path, dict[str, Any]]]]


def read(results: pathlib.Path) -> Records:
    """Folders of results and their settings.json, by experiment.

    Raises: ValueError for one that is damaged.
    """
    found: dict[str, list] = {}
    for path in sorted(results.rglob(execution.SETTINGS)):
        record = execution.read_record(path.parent)
        found.setdefault(record["experiment"], []).append((path.parent, record))
    return found


def describe(name: str, results: pathlib.Path, records: Records) -> list[str]:
    """Scales, cost at scale cpu, and state of an experiment."""
    scales = ", ".join(registry.load(name).SCALES)
    own = [record for _, record in records.get(name, [])]
    folder = results / getattr(registry.load(name), "SHARED", name)
    return [scales, _cost(name, own), _state(folder, own)]


def _cost(name: str, records: list[dict[str, Any]]) -> str:
    module = registry.load(name)
    words = ["one computation"]
    if hasattr(module, "runs"):
        planned = module.runs(module.SCALES["cpu"]).values()
        words = [f"{sum(run.share for run in planned):.0f} runs"]
    words += [
        duration(record["seconds"])
        for record in records
        if record["scale"] == "cpu" and "seconds" in record
    ]
    return ", ".join(words)


def _state(folder: pathlib.Path, records: list[dict[str, Any]]) -> str:
    if records:
        return "done at " + ", ".join(sorted({r["scale"] for r in records}))
    begun = len(list(folder.rglob("config.json")))
    ended = sum(len(list(folder.rglob(end))) for end in ("summary.json", FAILURE))
    return f"resumable: {ended} of {begun} runs begun are finished" if begun else "-"
