"""Runs that were trained elsewhere: taken, not trained again.

By another experiment in a folder beside, or by this one on another machine, which has
left an archive. Only what says how a run went is taken, not its weights.
"""

import contextlib
import lzma
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping

from experiments.harness.final_sharpness import MEASURED
from experiments.harness.runs import (
    FAILURE,
    Key,
    PlannedRun,
    finished,
    folder_name,
    unfinished,
)
from sam_jax import output
from sam_jax.training import configuration

CONFIG, SUMMARY = "config.json", "summary.json"
TAKEN = (CONFIG, "metrics.jsonl", SUMMARY, FAILURE, MEASURED)


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
        for source in _ended(other):
            key = wanted.pop(_fingerprint(source), None)
            if key is not None:
                _copy(source, folder / folder_name(key))
                taken.append(key)
    return taken


def _fingerprint(workdir: pathlib.Path) -> str:
    config = configuration.read(workdir / CONFIG)
    return configuration.fingerprint(configuration.check(config))


def _ended(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders of its runs that have a result, be it that the loss was not finite"""
    return sorted({p.parent for end in (SUMMARY, FAILURE) for p in folder.rglob(end)})


def _copy(source: pathlib.Path, workdir: pathlib.Path) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    for name in TAKEN:
        if (source / name).exists():
            shutil.copyfile(source / name, workdir / name)


@contextlib.contextmanager
def kept(
    planned: Mapping[Key, PlannedRun], folder: pathlib.Path, archive: pathlib.Path
) -> Iterator[None]:
    """Takes the runs that an archive has; and whatever ends the work, archives those
    that are finished by then.

    Raises: ValueError for an archive that cannot be read, or has other runs.
    """
    with tempfile.TemporaryDirectory() as name:
        beside = pathlib.Path(name)
        if archive.exists():
            _unpack(archive, beside)
            _refuse_others(planned, beside, archive)
        take(planned, folder, [beside])
    try:
        yield
    finally:
        _pack(planned, folder, archive)


def _unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    try:
        with tarfile.open(archive, "r:xz") as files:
            files.extractall(folder, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ValueError(
            f"{archive} cannot be read ({error}); restore it, or remove it to train "
            "its runs again."
        ) from None


def _refuse_others(
    planned: Mapping[Key, PlannedRun], folder: pathlib.Path, archive: pathlib.Path
) -> None:
    configs = [configuration.check(plan.config) for plan in planned.values()]
    known = set(map(configuration.fingerprint, configs))
    if strange := [run for run in _ended(folder) if _fingerprint(run) not in known]:
        raise ValueError(
            f"{archive} has {len(strange)} runs of other settings, such as "
            f"{strange[0].relative_to(folder)}; move it away to begin anew."
        )


def _pack(
    planned: Mapping[Key, PlannedRun], folder: pathlib.Path, archive: pathlib.Path
) -> None:
    """The same bytes for the same runs: without times and owners."""
    names = [
        folder_name(k)
        for k, p in planned.items()
        if finished(p, folder / folder_name(k))
    ]
    if not names:
        return
    archive.parent.mkdir(parents=True, exist_ok=True)

    def write(file) -> None:
        with tarfile.open(fileobj=file, mode="w:xz") as files:
            for path in (f"{name}/{part}" for name in sorted(names) for part in TAKEN):
                if (folder / path).exists():
                    files.add(folder / path, path, filter=_anonymous)

    output.write_atomic(archive, write)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    plain = {"mtime": 0, "mode": 0o644, "uid": 0, "gid": 0, "uname": "", "gname": ""}
    return member.replace(**plain, deep=False)
