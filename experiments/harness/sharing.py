"""Runs that another experiment has trained in a folder beside: taken, not trained again

Only what says how a run went is taken, not its weights.
"""

import pathlib
import shutil
from collections.abc import Iterable, Mapping

from experiments.harness.runs import Key, PlannedRun, folder_name, unfinished
from sam_jax.training import configuration

TAKEN = ("config.json", "metrics.jsonl", "summary.json")


def take(
    planned: Mapping[Key, PlannedRun],
    folder: pathlib.Path,
    others: Iterable[pathlib.Path],
) -> list[Key]:
    """Copies finished runs of equal configurations into the folders of planned ones.

    Args:
      planned: those that go on from another run are left out.
      others: folders of runs of other experiments; what is not there has none.

    Returns: the keys of what was taken.
    """
    there = [other for other in others if other.is_dir()]
    if not there:
        return []
    wanted = {
        configuration.fingerprint(configuration.check(plan.config)): key
        for key, plan in unfinished(planned, folder).items()
        if plan.parent is None
    }
    taken = []
    for other in there if wanted else ():
        for path in sorted(other.rglob("summary.json")):
            config = configuration.check(configuration.read(path.parent / TAKEN[0]))
            key = wanted.pop(configuration.fingerprint(config), None)
            if key is not None:
                workdir = folder / folder_name(key)
                workdir.mkdir(parents=True, exist_ok=True)
                for name in TAKEN:
                    shutil.copyfile(path.parent / name, workdir / name)
                taken.append(key)
    return taken
