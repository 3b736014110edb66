"""Damage to what a run has written, and other hands in its directory.

Whatever was done, the same command either ends as if nothing had been, or refuses in a
line; it never ends with other results, and never in a traceback.
"""

import os
import pathlib
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable

from tests.faults import runs
from tests.faults.outcome import Outcome

LINES = 6  # of a refusal, what is said about a damaged checkpoint among it

Damage = Callable[[pathlib.Path, random.Random], None]


def empty(path: pathlib.Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def remove(path: pathlib.Path, chance: random.Random) -> None:
    path.unlink()


def cut(path: pathlib.Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def flip(path: pathlib.Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def scramble(path: pathlib.Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(64))


def replace(path: pathlib.Path, chance: random.Random) -> None:
    path.write_text(chance.choice(["[]", "null", "3", "{}", '{"epoch": 1}\n5\n']))


DAMAGES: tuple[Damage, ...] = (empty, remove, cut, flip, scramble, replace)


def files(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """Every kind of file of a run in its midst, damaged in every way."""
    chance, lost, refused = random.Random(seed), [], 0
    whole, midst = _whole_and_midst(folder)
    for number in range(tries):
        workdir = folder / str(number)
        shutil.copytree(midst, workdir)
        written = sorted(p for p in workdir.rglob("*") if p.is_file())
        kinds = sorted({_kind(p.relative_to(workdir)) for p in written})
        kind, damage = kinds[number % len(kinds)], chance.choice(DAMAGES)
        of_kind = [p for p in written if _kind(p.relative_to(workdir)) == kind]
        path = chance.choice(of_kind)
        damage(path, chance)
        what = f"{damage.__name__} {path.relative_to(workdir)}"
        why, ended = _goes_on(workdir, whole)
        lost += [f"{what}: {why}"] if why else []
        refused += not ended
    return Outcome("a damaged file", tries, lost, f"{refused} refused in a line")


def _whole_and_midst(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A finished run, and one that a signal has ended in its third epoch."""
    folder.mkdir(parents=True)
    whole, midst = folder / "whole", folder / "midst"
    assert runs.status_of(runs.fork(lambda: runs.train(whole), folder / "a")) == 0
    stop = 2 * runs.STEPS + 4
    ended = runs.fork(lambda: runs.train(midst, stop_after=stop), folder / "b")
    assert runs.status_of(ended) == 128 + signal.SIGTERM
    return whole, midst


def _kind(path: pathlib.Path) -> str:
    """What a file is, whatever its number: "checkpoints/state/manifest"."""
    parts = [p for p in path.parts if not p.isdigit()]
    return "/".join(p if len(p) < 24 else "data" for p in parts)


def _goes_on(workdir: pathlib.Path, whole: pathlib.Path) -> tuple[str, bool]:
    """What is wrong with how a run goes on ("" for nothing), and whether it ended."""
    said = workdir.with_suffix(".txt")
    status = runs.status_of(runs.fork(lambda: runs.train(workdir), said))
    words = said.read_text(errors="replace")
    if status == 0:
        return runs.differences(workdir, whole)[:200], True
    if status not in (1, 2) or "Traceback" in words:
        return f"status {status}: {words[-300:]}", False
    return (f"{words[:300]}" if len(words.splitlines()) > LINES else ""), False


def two_writers(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """A second run in a directory, at any moment of the first."""
    chance, lost = random.Random(seed), []
    folder.mkdir(parents=True)
    whole = folder / "whole"
    assert runs.status_of(runs.fork(lambda: runs.train(whole), folder / "a")) == 0
    for number in range(tries):
        workdir = folder / str(number)
        first = runs.fork(lambda w=workdir: runs.train(w), folder / f"{number}.1")
        time.sleep(chance.uniform(0, 1.5))
        second = runs.fork(lambda w=workdir: runs.train(w), folder / f"{number}.2")
        statuses = sorted([runs.status_of(first), runs.status_of(second)])
        if statuses not in ([0, 2], [0, 0]):  # both, one after the other
            lost.append(f"{number}: statuses {statuses}")
        elif odd := runs.differences(workdir, whole):
            lost.append(f"{number}: {odd[:200]}")
    return Outcome("two runs in one directory", tries, lost)


def full_disk(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """No file may grow beyond a random size; then the disk has room again."""
    chance, lost, ended = random.Random(seed), [], 0
    folder.mkdir(parents=True)
    whole = folder / "whole"
    assert runs.status_of(runs.fork(lambda: runs.train(whole), folder / "a")) == 0
    for number in range(tries):
        workdir, limit = folder / str(number), int(10 ** chance.uniform(2, 5))

        def work(workdir: pathlib.Path = workdir, limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            os.environ["JAX_COMPILATION_CACHE_DIR"] = ""
            runs.train(workdir)

        said = workdir.with_suffix(".full")
        status = runs.status_of(runs.fork(work, said))
        ended += status == 0
        if status not in (0, 1, 2):
            words = said.read_text(errors="replace")
            lost.append(f"{limit} bytes: status {status}: {words[-300:]}")
        if why := _goes_on(workdir, whole)[0]:
            lost.append(f"after {limit} bytes: {why}")
    return Outcome("a full disk", tries, lost, f"{ended} had room enough")
