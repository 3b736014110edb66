"""What a run at some scale would do, beside what the paper prints, and for how long: a
few steps of every method are timed, and nothing is kept.
"""

import functools
import json
import tempfile
import textwrap
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.harness import registry
from experiments.harness.runs import Key, PlannedRun
from sam_jax import checks, data, models, output
from sam_jax.training import configuration, estimate, loop, problem

# App. C, App. D and the captions: key -> (value as printed, where).
PAPER: dict[str, tuple[Any, str]] = {
    "epochs": ("1000; 200 in Table 2; 100 in Fig. 12", "App. C, Fig. 12"),
    "batch_size": ("128; 256 in Table 1", "App. C, App. D"),
    "l2": (0.0005, "App. C"),
    "data.augment.crop_padding": ("random crops, no number", "App. C"),
    "data.augment.mirror": ("mirroring", "App. C"),
    "data.classes": ("horse and car in Table 1", "App. C"),
    "data.name": ("CIFAR-10, CIFAR-100", "App. C"),
    "data.noise.fraction": ("0; 0.6 in Fig. 3; 0.8 in Table 1; 0.4, 0.6", "captions"),
    "data.noise.kind": ("uniformly random labels", "Sec. 4"),
    "data.validation_fraction": (0.1, "App. C"),
    "ema.decay": ("0.999 in SWA", "App. C"),
    "loss.name": ("cross-entropy, GCE", "App. C"),
    "loss.q": (0.7, "App. C"),
    "model.name": ("pre-activation ResNet-18; ResNet-34 in Table 2", "App. C"),
    "model.width": ("64; 16 in Table 1", "App. C, App. D"),
    "optimizer.momentum": (0.9, "App. C"),
    "optimizer.name": ("SGD with momentum", "App. C"),
    "sam.m": ("the batch; 64 in Table 1", "App. C, App. D"),
    "sam.normalize": ("normalised; unnormalised in Fig. 10", "Sec. 3.2"),
    "sam.rho": (".025-.4; .001-.2 in Table 1; .2 for ERM to SAM", "App. C, App. D"),
    "schedule.name": ("0.1 times at 50% and 75%; cosine in Table 2", "App. C"),
    "schedule.peak": (0.1, "App. C"),
}
# Of the training split; with classes, of those alone.
TRAINING_EXAMPLES = {"cifar10": 50_000, "cifar100": 50_000, "fashion_mnist": 60_000}
CLASSES = {"cifar10": 10, "cifar100": 100, "fashion_mnist": 10}
UNTRAINED = "One computation, not runs of a recipe; at scale smoke it takes seconds."
DEFAULTS = "At their defaults, which python -m sam_jax.train --helpkeys explains"
IMAGES = {"cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "fashion_mnist": (28, 28, 1)}


def describe(name: str, scale: str) -> str:
    """Settings, runs, steps, parameters and hours of an experiment at a scale.

    Keys at their defaults, of which the paper says nothing, are named alone.

    Raises: ValueError for an unknown experiment or scale.
    """
    module = registry.load(name)
    chosen = checks.choose("scale", scale, module.SCALES)
    if not hasattr(module, "runs"):
        settings, full = (registry.settings(name, s) for s in (scale, "paper"))
        rows = [
            [key, json.dumps(value), json.dumps(full[key])]
            for key, value in settings.items()
        ]
        table = output.table(["setting", f"at {scale}", "at paper"], rows, left=True)
        return f"{table}\n\n{UNTRAINED}"
    runs = {
        key: run._replace(config=configuration.check(run.config))
        for key, run in module.runs(chosen).items()
    }
    flat = {key: configuration.flatten(run.config) for key, run in runs.items()}
    shown = {key: _values(flat, key) for key in configuration.KEYS}
    plain = [
        key
        for key, values in shown.items()
        if key not in PAPER and values == str(configuration.KEYS[key].default)
    ]
    rows = [
        [key, values, *map(str, PAPER.get(key, ("-", "-")))]
        for key, values in shown.items()
        if key not in plain
    ]
    table = output.table(["key", "value(s)", "paper", "where"], rows, left=True)
    others = textwrap.fill(f"{DEFAULTS}: {', '.join(plain)}.", 88)
    return f"{table}\n\n{others}\n\n{_totals(runs)}\n{_hours(runs)}"


def _values(flat: Mapping[Key, Mapping[str, Any]], key: str) -> str:
    """The value of a key in all runs, or the few that it takes."""
    return ", ".join(dict.fromkeys(str(values[key]) for values in flat.values()))


def _checked(run: PlannedRun) -> configuration.Config:
    """The configuration of a run, checked once."""
    done = isinstance(run.config, ml_collections.FrozenConfigDict)
    return run.config if done else configuration.check(run.config)


def steps(run: PlannedRun) -> int:
    """How many steps a run takes, after those of the run it goes on from."""
    config = _checked(run)
    count, _, _ = shape(config)
    train = count - round(config.data.validation_fraction * count)
    return (config.epochs - run.epoch) * (train // config.batch_size)


def _hours(runs: Mapping[Key, PlannedRun]) -> str:
    """How long all runs take one after the other, by a few steps and an evaluation of
    every method.
    """
    programs: dict[Any, list[PlannedRun]] = {}
    for run in runs.values():
        programs.setdefault(_program(run), []).append(run)
    total = 0.0
    try:
        for some in programs.values():
            step, evaluation = _seconds(some[0])
            for run in some:
                count = estimate.evaluations(_checked(run), run.epoch)
                total += run.share * (steps(run) * step + count * evaluation)
    except (data.UnavailableDataError, configuration.ConfigError) as error:
        return f"How long they take is not known: {error}"
    return (
        f"About {total / 3600:.1f} hours here, one run after another (see --jobs), by "
        f"{estimate.TIMED} steps and an evaluation of every method."
    )


def _program(planned: PlannedRun) -> tuple[tuple[str, str], ...]:
    """Equal for runs whose steps and evaluations take the same time: all that is no
    real number, such as rho, nor says how long a run is or what becomes of it.
    """
    flat = configuration.flatten(_checked(planned))
    other = ("seed", "epochs", "checkpoint.", "eval.every_epochs", "schedule.")
    kept = {
        key: value
        for key, value in flat.items()
        if not isinstance(value, float) and not key.startswith(other)
    }
    kept["averages"] = flat["ema.decay"] > 0  # and evaluates twice
    kept["validates"] = flat["data.validation_fraction"]
    return tuple((key, repr(value)) for key, value in kept.items())


def _seconds(planned: PlannedRun) -> tuple[float, float]:
    """Of a step, with ascent where the run has any, and of an evaluation."""
    run = loop.prepare(planned.config, tempfile.gettempdir(), claim=False)
    return estimate.seconds(run)


def _totals(runs: Mapping[Key, PlannedRun]) -> str:
    """Runs, steps and parameters."""
    taken, sizes, trained, total = [], {}, 0.0, 0.0
    for run in runs.values():
        config = _checked(run)
        _, classes, image = shape(config)
        taken.append(steps(run))
        trained += run.share
        total += steps(run) * run.share
        label = f"{config.model.name}, {classes} classes"
        if label not in sizes:
            sizes[label] = parameters(config, classes, image)
    lines = [f"{trained:.0f} runs of {_span(taken)} steps: {total:,.0f} steps in all."]
    lines += [f"{label}: {size:,} parameters." for label, size in sizes.items()]
    return "\n".join(lines)


def shape(config: Any) -> tuple[int, int, tuple[int, ...]]:
    """Training examples, classes and image shape, without reading CIFAR."""
    name, chosen, size = config.data.name, config.data.classes, config.data.resize
    if name not in TRAINING_EXAMPLES:
        length, path = config.data.length, config.data.path
        count, kept, image = _read(name, tuple(chosen), size, length, path)
    else:
        kept = len(chosen) or CLASSES[name]  # all classes are equally large
        count = TRAINING_EXAMPLES[name] * kept // CLASSES[name]
        height, width, channels = IMAGES[name]
        image = (size or height, size or width, channels)
    return config.data.train_examples or count, kept, image


@functools.cache
def _read(
    name: str, classes: tuple[str, ...], size: int, length: int, path: str
) -> tuple[int, int, tuple[int, ...]]:
    """`shape` by the data themselves, which many runs share."""
    source = data.load(
        name, classes=classes or None, size=size, length=length, path=path
    )
    return len(source.train_labels), source.num_classes, source.image_shape


def parameters(config: Any, classes: int, image: tuple[int, ...]) -> int:
    """Number of parameters of a run's network, without making them."""
    module = problem.create_model(config, classes, 1, config.batch_size)
    tokens = len(image) == 1
    dtype = np.int32 if tokens else np.float32
    made = jax.eval_shape(
        lambda key: models.start(module, key, image, np.float32, dtype),
        jax.random.key(0),
    )
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(made["params"]))


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
