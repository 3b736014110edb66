"""Runs that were trained elsewhere: taken, not trained again.

By another experiment in a folder beside, or by this one on another machine, which has
left an archive. Only what says how a run went is taken, not its weights.
"""

import contextlib
import lzma
import pathlib
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from experiments.harness.runs import (
    FAILURE,
    Key,
    PlannedRun,
    finished,
    folder_name,
    measured,
    unfinished,
)
from sam_jax import output
from sam_jax.training import configuration, loop

CONFIG, SUMMARY = "config.json", "summary.json"
# What makes a run a finished one comes last.
TAKEN = (CONFIG, "data.json", "metrics.jsonl", SUMMARY, FAILURE)
EVERY = 300.0  # seconds between archives


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
        _fingerprint(plan.config): key
        for key, plan in unfinished(planned, folder).items()
        if plan.parent is None
    }
    taken = []
    for other in there if wanted else ():
        for source in _ended(other):
            mark = _fingerprint(configuration.read(source / CONFIG))
            if mark in wanted and measured(planned[wanted[mark]], source):
                key = wanted.pop(mark)
                _copy(source, folder / folder_name(key), _names(planned[key]))
                taken.append(key)
    return taken


def _fingerprint(config: Mapping) -> str:
    return configuration.fingerprint(configuration.check(config))


def _ended(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders of its runs that have a result, be it that the loss was not finite"""
    return sorted({p.parent for end in (SUMMARY, FAILURE) for p in folder.rglob(end)})


def _names(plan: PlannedRun) -> tuple[str, ...]:
    return (plan.then.file, *TAKEN) if plan.then else TAKEN


def _copy(source: pathlib.Path, workdir: pathlib.Path, names: Iterable[str]) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists():
            saved = (source / name).read_bytes()
            output.write_atomic(workdir / name, lambda file, s=saved: file.write(s))


@contextlib.contextmanager
def kept(
    planned: Mapping[Key, PlannedRun], folder: pathlib.Path, archive: pathlib.Path
) -> Iterator[Callable[[], None]]:
    """Takes the runs that an archive has. When the work ends, also by an error or a
    signal, and every few minutes of calls to what it gives, archives those that are
    finished by then.

    Raises: ValueError for an archive that cannot be read, has other runs, or runs on
      other data than there are here, and for runs that go on from others.
    """
    if any(plan.parent is not None for plan in planned.values()):
        raise ValueError("Runs that go on from others need their weights; not kept.")
    with tempfile.TemporaryDirectory() as name:
        beside = pathlib.Path(name)
        if archive.exists():
            _unpack(archive, beside)
            _refuse_others(planned, beside, archive)
        take(planned, folder, [beside])
    last = time.monotonic()

    def now_and_then() -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            _pack(planned, folder, archive)
            last = time.monotonic()

    try:
        yield now_and_then
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
    """Of other settings, or of data that are others on this machine."""
    known = {_fingerprint(plan.config) for plan in planned.values()}
    configs = {run: configuration.read(run / CONFIG) for run in _ended(folder)}
    if strange := [r for r, c in configs.items() if _fingerprint(c) not in known]:
        raise ValueError(
            f"{archive} has {len(strange)} runs of other settings, such as "
            f"{strange[0].relative_to(folder)}; move it away to begin anew."
        )
    for run, config in {c.data.name: (r, c) for r, c in configs.items()}.values():
        try:
            loop.prepare(config, run)
        except ValueError as error:
            raise ValueError(
                f"{archive} has runs on data that are not there: {error} Its runs "
                "cannot go on here; move it away to begin anew."
            ) from None


def _pack(
    planned: Mapping[Key, PlannedRun], folder: pathlib.Path, archive: pathlib.Path
) -> None:
    """The same bytes for the same runs: without times and owners."""
    paths = [
        f"{name}/{part}"
        for name, plan in sorted((folder_name(k), p) for k, p in planned.items())
        if finished(plan, folder / name)
        for part in sorted(_names(plan))
        if (folder / name / part).exists()
    ]

    def write(file) -> None:
        with tarfile.open(fileobj=file, mode="w:xz") as files:
            for path in paths:
                files.add(folder / path, path, filter=_anonymous)

    if paths:
        archive.parent.mkdir(parents=True, exist_ok=True)
        output.write_atomic(archive, write)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    plain = {"mtime": 0, "mode": 0o644, "uid": 0, "gid": 0, "uname": "", "gname": ""}
    return member.replace(**plain, deep=False)
