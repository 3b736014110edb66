"""One experiment from its settings to a folder of results: computed, saved, judged,
drawn; and checked again from what was saved.
"""

import contextlib
import importlib.metadata
import itertools
import json
import pathlib
import platform
import subprocess
import time
import zipfile
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import claims, paper_scale, registry, sharing, training
from experiments.harness.claims import Claim
from experiments.harness.runs import Key, TrainedRun
from sam_jax import output, plotting
from sam_jax.training import configuration
from sam_jax.training.keys import KEYS

SETTINGS, ARRAYS, CLAIMS = "settings.json", "arrays.npz", "claims.json"
FIGURE, RUNS = "figure.png", "runs"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "matplotlib")


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
    x64 = jax.enable_x64(getattr(module, "X64", False))
    with x64, _kept(module, scale, out) as keep:
        inputs = _inputs(module, scale, out, workers, keep)
        start = time.perf_counter()
        arrays = module.run(*inputs)
    seconds = time.perf_counter() - start + sum(map(_training_seconds, inputs[1:]))
    out.mkdir(parents=True, exist_ok=True)
    record |= {"methods": registry.methods(name, scale), **environment()}
    if devices := sorted(set().union(*map(_devices, inputs[1:]))):
        record["trained_on"] = devices
    record["seconds"] = round(seconds, 1)
    output.write_json(out / SETTINGS, record)
    output.write_arrays(out / ARRAYS, arrays)
    found = _judge(name, scale, arrays)
    output.write_json(out / CLAIMS, _plain(found, name, scale))
    draw(name, out)
    return found


def _judge(name: str, scale: str, arrays: claims.Arrays) -> list[Claim]:
    """The experiment's claims; at the paper's scale those on printed numbers too."""
    module = registry.load(name)
    found = list(module.judge(module.SCALES[scale], arrays))
    return found + list(paper_scale.judge(name, arrays) if scale == "paper" else ())


def _plain(found: list[Claim], name: str, scale: str) -> list[dict[str, Any]]:
    return [claims.plain(c, registry.command(name, scale)) for c in found]


def environment() -> dict[str, Any]:
    """The commit, the versions and the device that results are made with, and how it
    multiplies float32; changed results are no changes of the code.
    """
    commit = _git("rev-parse", "--short=12", "HEAD").strip()
    code = [
        "status",
        "--porcelain",
        "--untracked-files=no",
        ":/",
        ":(top,exclude)results",
    ]
    changed = _git(*code)
    return {
        "commit": f"{commit or 'unknown'}{' and changes' * bool(changed.strip())}",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "device": jax.devices()[0].device_kind,
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
    }


def _git(*arguments: str) -> str:
    """What git says of this project; "" without git, and outside of a clone."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return ""


def summary(out: pathlib.Path) -> list[list[str]]:
    """The table that an experiment makes of its arrays; [] if it makes none."""
    module = registry.load(read_record(out)["experiment"])
    has = hasattr(module, "table") and (out / ARRAYS).exists()
    return module.table(read_arrays(out)) if has else []


class Checked(NamedTuple):
    """experiment, claims: that were recomputed. odd: what is not as it was saved."""

    experiment: str
    claims: int
    odd: list[str]


def check(out: pathlib.Path) -> Checked:
    """Recomputes the claims of a folder from its arrays, and draws its figure.

    Writes nothing. What differs from what is saved there is listed, a line each.
    """
    record = read_record(out)
    name, scale = record["experiment"], record["scale"]
    module = registry.load(name)
    refuse_other_settings(out, {**record, "settings": registry.settings(name, scale)})
    arrays, odd = read_arrays(out), []
    found = _plain(_judge(name, scale, arrays), name, scale)
    found = json.loads(json.dumps(found))
    saved = claims.read(out / CLAIMS)
    for old, new in itertools.zip_longest(saved, found):
        if not _same(old, new):
            odd.append(_difference(old, new))
    plotting.png(module.plot(arrays))
    return Checked(name, len(found), odd)


def _same(old: Any, new: Any) -> bool:
    """Whether two JSON values agree; numbers to 1e-9, since libraries round."""
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) <= 1e-9 * max(1.0, abs(old))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(old[k], new[k]) for k in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return bool(old == new)


def _difference(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    if old is None or new is None:
        one = old or new
        assert one is not None
        return f"{'a new' if old is None else 'no longer a'} claim: {one['claim']}"
    changed = [k for k in new if not _same(old.get(k), new[k])]
    listed = "; ".join(f"{k} {new[k]!r}, saved {old.get(k)!r}" for k in changed)
    return f"{old['claim']}: {listed}"


def read_record(out: pathlib.Path) -> dict[str, Any]:
    """The settings.json of a folder of results.

    Raises: ValueError for what is none.
    """
    path = out / SETTINGS
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); run it again.") from None
    wanted = {"experiment": str, "scale": str, "settings": dict}
    if not isinstance(record, dict) or not all(
        isinstance(record.get(key), kind) for key, kind in wanted.items()
    ):
        raise ValueError(
            f"{path} is not that of an experiment's results; remove it, and run it "
            "again."
        )
    return record


def read_arrays(out: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a folder of results.

    Raises: ValueError if there are none, or damaged ones.
    """
    try:
        with (out / ARRAYS).open("rb") as file, np.load(file) as saved:
            return dict(saved)
    except FileNotFoundError:
        raise ValueError(f"{out / ARRAYS} is missing; run it again.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{out / ARRAYS} cannot be read ({error}).") from None


def _kept(
    module: ModuleType, scale: str, out: pathlib.Path
) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """As `sharing.kept` for an experiment that declares what is kept."""
    if not hasattr(module, "kept"):
        return contextlib.nullcontext(lambda: None)
    planned, folder = module.kept(module.SCALES[scale]), _folder(module, scale, out)
    return sharing.kept(planned, folder, out / f"runs.{scale}.tar.xz")


def _folder(module: ModuleType, scale: str, out: pathlib.Path) -> pathlib.Path:
    """Of the runs of an experiment."""
    if not hasattr(module, "SHARED"):
        return out / RUNS
    recipe = module.SCALES[scale].recipe or scale
    return out.parent / module.SHARED / recipe / RUNS


def _inputs(
    module: ModuleType,
    scale: str,
    out: pathlib.Path,
    workers: int,
    keep: Callable[[], None] = lambda: None,
) -> tuple:
    """What `run` takes: settings, and the trained runs of an experiment that has any.

    Args:
      keep: called after every run.
    """
    chosen = module.SCALES[scale]
    if not hasattr(module, "runs"):
        return (chosen,)
    runs = module.runs(chosen)
    alone = getattr(module, "TIMED", False)
    workers = 1 if alone else workers
    folder = _folder(module, scale, out)
    others = [out.parent / name / RUNS for name in getattr(module, "TAKES", ())]
    sharing.take(runs, folder, others)
    together = False if alone else None

    def report(words: str) -> None:
        print(words, flush=True)
        keep()

    return chosen, training.train(
        runs, folder, report, workers=workers, together=together
    )


def _training_seconds(trained: Mapping[Key, TrainedRun]) -> float:
    """What all runs took, one after another, whenever they were trained."""
    return sum(run.summary.get("seconds", 0.0) for run in trained.values())


def _devices(trained: Mapping[Key, TrainedRun]) -> set[str]:
    """What the runs were trained on, as far as their summaries say so."""
    return {r.summary["device"] for r in trained.values() if "device" in r.summary}


def draw(name: str, out: output.Path) -> None:
    """Draws the figure anew from the arrays saved in `out`."""
    out = pathlib.Path(out)
    figure = registry.load(name).plot(read_arrays(out))
    plotting.save(figure, out / FIGURE, colors=256)


def refuse_other_settings(out: pathlib.Path, record: Mapping[str, Any]) -> None:
    """ValueError that names the differing keys if `out` holds another run's results."""
    path = out / SETTINGS
    if not path.exists():
        return
    there = read_record(out)
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
