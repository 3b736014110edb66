"""The declared keys of a run's configuration: meaning, type, range.

No key has a default here: a recipe gives every one (see configs/common.py), so that
config.json tells the whole story of a run.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

# A checked configuration, or a part of it: a FrozenConfigDict. Its keys are attributes
# that no type checker knows.
Config = Any


class ConfigError(ValueError):
    """A configuration that no run can be made of; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A declared key.

    meaning: what the value is, with its unit. allowed: the values, in words.
    convert: value -> value in its proper type; raises TypeError or ValueError for a
      value that is not allowed.
    """

    meaning: str
    allowed: str
    convert: Callable[[Any], Any]


def whole(low: int, meaning: str) -> Key:
    """An integer, `low` or more."""

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError
        return value

    return Key(meaning, f"an integer >= {low}", convert)


def number(interval: str, meaning: str) -> Key:
    """A finite number of an interval in the usual notation, such as "[0, 1)"."""
    low, high = (float(end) for end in interval[1:-1].split(","))

    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below and math.isfinite(value)):
            raise ValueError
        return float(value)

    return Key(meaning, f"a number in {interval}", convert)


def choice(names: tuple[str, ...], meaning: str) -> Key:
    """One of a few words."""

    def convert(value: Any) -> str:
        if value not in names:
            raise ValueError
        return value

    return Key(meaning, f"one of {', '.join(names)}", convert)


def switch(meaning: str) -> Key:
    """True or False."""

    def convert(value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    return Key(meaning, "True or False", convert)


def text(meaning: str) -> Key:
    """A string."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        return value

    return Key(meaning, "a string", convert)


def several(kind: type, meaning: str) -> Key:
    """A tuple of strings, or of integers >= 0."""
    described = "strings" if kind is str else "integers >= 0"

    def convert(value: Any) -> tuple:
        if not isinstance(value, tuple | list):
            raise TypeError
        for item in value:
            if isinstance(item, bool) or not isinstance(item, kind):
                raise TypeError
            if isinstance(item, int) and item < 0:
                raise ValueError
        return tuple(value)

    return Key(meaning, f"a tuple of {described}", convert)


KINDS = (
    "erm",
    "sam",
    "sum_max",
    "sam_direction",
    "sam_derivative",
    "max_sum",
    "gsam",
)
PERTURBATIONS = ("normalized", "unnormalized", "adaptive", "layerwise", "random")

KEYS: dict[str, Key] = {
    "seed": whole(0, "seed of initialisation, noise, split, order and augmentation"),
    "epochs": whole(1, "passes over the training set"),
    "batch_size": whole(1, "examples a step, over all devices"),
    "devices": whole(0, "devices to use; 0 for all there are"),
    "init_from": text("work directory of a finished run to start from; '' for none"),
    "l2": number("[0, inf)", "penalty l2/2 |w|^2 of all parameters, in the objective"),
    "data.name": text("data set"),
    "data.classes": several(str, "names of the classes kept; () for all"),
    "data.noise.kind": choice(("uniform", "asymmetric"), "how labels are replaced"),
    "data.noise.fraction": number("[0, 1]", "fraction of training labels replaced"),
    "data.noise.exclude_true": switch("replaced labels are never the true ones"),
    "data.noise.mapping": several(int, "asymmetric: class c becomes mapping[c]"),
    "data.validation_fraction": number("[0, 1)", "part of training kept to validate"),
    "data.augment.crop_padding": whole(0, "pixels of padding before a random crop"),
    "data.augment.mirror": switch("flip left and right at random"),
    "model.name": text("network"),
    "model.width": whole(1, "channels of a ResNet's first stage"),
    "model.norm": choice(("batch", "group"), "normalisation layers of a ResNet"),
    "model.groups": whole(0, "groups of GroupNorm; 0 for width // 2"),
    "model.widths": several(int, "units or channels of mlp's or conv_net's layers"),
    "model.hidden": whole(1, "units of conv_net's dense layer"),
    "model.activation": text("of mlp"),
    "model.dtype": choice(("float32", "bfloat16", "float64"), "arithmetic of the net"),
    "loss.name": text("loss of one example"),
    "loss.q": number("[0, 1]", "exponent of generalized_cross_entropy"),
    "loss.label_smoothing": number("[0, 1)", "mass spread over all classes"),
    "optimizer.name": choice(("sgd", "adam"), "base optimiser"),
    "optimizer.momentum": number("[0, 1)", "momentum of sgd"),
    "optimizer.nesterov": switch("Nesterov's momentum"),
    "optimizer.beta1": number("[0, 1)", "decay of adam's first moment"),
    "optimizer.beta2": number("[0, 1)", "decay of adam's second moment"),
    "optimizer.epsilon": number("(0, inf)", "adam's guard of the denominator"),
    "optimizer.weight_decay": number("[0, inf)", "decoupled decay, outside the ascent"),
    "optimizer.gradient_clip": number("[0, inf)", "largest gradient norm; 0 for none"),
    "schedule.name": text("learning rate over steps"),
    "schedule.peak": number("(0, inf)", "largest learning rate"),
    "schedule.warmup_epochs": number("[0, inf)", "epochs of linear warm-up from 0"),
    "sam.kind": choice(KINDS, "which gradient a step follows"),
    "sam.rho": number("[0, inf)", "ascent radius, or step size if unnormalised"),
    "sam.rho_schedule": text("rho over steps, from the learning-rate schedules"),
    "sam.m": whole(
        0, "examples that share a perturbation; 0 for the whole batch, or 1 in sum_max"
    ),
    "sam.chunk": whole(0, "groups of m worked on at once; 0 for all"),
    "sam.perturbation": choice(PERTURBATIONS, "ascent direction and length"),
    "sam.eta": number("[0, inf)", "offset of adaptive scaling |w| + eta"),
    "sam.alpha": number("[0, inf)", "weight of gsam's surrogate gap"),
    "sam.ascent_steps": whole(1, "ascent steps before each descent step"),
    "sam.ascent_step_size": number("[0, inf)", "length of one; 0 for rho"),
    "sam.only_norm": switch("perturb the normalisation layers alone"),
    "sam.start_epoch": whole(0, "first epoch with ascent; plain steps before"),
    "sam.stop_epoch": whole(0, "first epoch without ascent again; 0 for never"),
    "sam.every": whole(1, "ascent in one step of so many, plain steps between"),
    "attack.kind": choice(
        ("none", "adversarial", "trades"), "what a step does to its images"
    ),
    "attack.norm": choice(("linf", "l2"), "norm of the ball"),
    "attack.eps": number("[0, inf)", "radius of the ball, for images in [0, 1]"),
    "attack.steps": whole(1, "PGD steps on a batch before its training step"),
    "attack.step_size": number("[0, inf)", "length of one; 0 for 2 eps / steps"),
    "attack.start": choice(("random", "zero"), "in the ball, or at the image"),
    "attack.eval_steps": whole(0, "PGD steps of an evaluation; 0 for no robust error"),
    "attack.eval_step_size": number("[0, inf)", "length of one; 0 for eps / 4"),
    "attack.beta": number("[0, inf)", "weight of trades' divergence"),
    "pairing.weight": number("[0, inf)", "lambda of the l2 pairing term; 0 for none"),
    "pairing.start": number("[0, 1]", "part of the training before the term starts"),
    "ema.decay": number("[0, 1)", "decay of the weights' moving average; 0 for none"),
    "eval.every_epochs": whole(1, "epochs between evaluations"),
    "eval.batch_size": whole(1, "examples evaluated at once, over all devices"),
    "checkpoint.every_epochs": whole(1, "epochs between checkpoints"),
    "checkpoint.keep": whole(1, "newest checkpoints kept"),
    "checkpoint.best": switch("also keep the best epoch by validation error"),
}


def check(config: Mapping[str, Any] | ml_collections.ConfigDict) -> Config:
    """Checks every key and how they fit together, and locks the configuration.

    Args:
      config: nested mapping with every key of KEYS and no other.

    Returns: an immutable copy in the declared types.
    Raises: ConfigError of one line: the key, the value received, what is allowed.
    """
    values = flatten(config)
    for name in values:
        check_key(name)
    for name in KEYS:
        if name not in values:
            raise ConfigError(
                f"The config lacks the key {name!r} ({KEYS[name].meaning}); "
                "start from configs/common.py, which holds every key."
            )
    checked = {name: _convert(name, values[name]) for name in KEYS}
    _check_together(checked)
    return nest(checked)


def check_key(name: str) -> None:
    """Raises ConfigError, with the nearest key there is, if no key has this name."""
    if name not in KEYS:
        near = difflib.get_close_matches(name, KEYS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "configs/common.py has all."
        raise ConfigError(f"Unknown config key {name!r}; {hint}")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"sam": {"rho": 1}} -> {"sam.rho": 1}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(old: Config, new: Config) -> list[str]:
    """The keys that differ between two configs, as "sam.rho: 0.1 -> 0.2"."""
    before, after = flatten(old), flatten(new)
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def plain(config: Config) -> dict[str, Any]:
    """Nested dicts, lists and numbers: what JSON holds."""
    values = flatten(config).items()
    return _nest({k: list(v) if isinstance(v, tuple) else v for k, v in values})


def _convert(name: str, value: Any) -> Any:
    key = KEYS[name]
    try:
        return key.convert(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"Received {name}={value!r}; it must be {key.allowed} ({key.meaning})."
        ) from None


def _check_together(c: Mapping[str, Any]) -> None:
    """What one key allows another. Fits to the devices are checked where they are."""
    group = c["sam.m"] or (1 if c["sam.kind"] == "sum_max" else c["batch_size"])
    if c["batch_size"] % group:
        raise ConfigError(
            f"Received sam.m={group} for batch_size={c['batch_size']}; "
            "m must divide the batch. Choose a divisor, or 0 for the whole batch."
        )
    if c["sam.kind"] == "max_sum" and group != c["batch_size"]:
        raise ConfigError(
            f"Received sam.m={group} with sam.kind='max_sum', whose one perturbation "
            "comes from a batch of its own; set sam.m=0."
        )
    plain = c["sam.perturbation"] in ("normalized", "unnormalized")
    single = c["sam.ascent_steps"] == 1 and c["sam.ascent_step_size"] == 0
    if c["sam.kind"] == "sum_max" and not (plain and single):
        raise ConfigError(
            f"Received sam.kind='sum_max' with sam.perturbation="
            f"{c['sam.perturbation']!r}, sam.ascent_steps={c['sam.ascent_steps']}; it "
            "takes one normalized or unnormalized step. For others use sam.kind='sam' "
            "with sam.m, which holds a copy of the weights for every group."
        )
    _check_attack(c)
    if 0 < c["sam.stop_epoch"] <= c["sam.start_epoch"]:
        raise ConfigError(
            f"Received sam.stop_epoch={c['sam.stop_epoch']} with sam.start_epoch="
            f"{c['sam.start_epoch']}; stop later than you start, or 0 for never."
        )
    if c["schedule.warmup_epochs"] >= c["epochs"]:
        raise ConfigError(
            f"Received schedule.warmup_epochs={c['schedule.warmup_epochs']} for "
            f"epochs={c['epochs']}; the warm-up must be shorter than the run."
        )


def _check_attack(c: Mapping[str, Any]) -> None:
    """What an attack needs, and what goes with it."""
    kind = c["attack.kind"]
    if (kind != "none" or c["attack.eval_steps"]) and c["attack.eps"] == 0:
        raise ConfigError(
            f"Received attack.eps=0 with attack.kind={kind!r}, attack.eval_steps="
            f"{c['attack.eval_steps']}; give a radius above 0, such as 8 / 255, or "
            "attack.kind='none' and attack.eval_steps=0."
        )
    if kind != "none" and c["sam.kind"] == "max_sum":
        raise ConfigError(
            "Received sam.kind='max_sum' with an attack; its ascent batch would not be "
            "attacked. Use sam.kind='sam'."
        )
    if c["pairing.weight"] and kind != "adversarial":
        raise ConfigError(
            f"Received pairing.weight={c['pairing.weight']} with attack.kind={kind!r}; "
            "the term pairs attacked with other images: set attack.kind='adversarial'."
        )


def group_size(config: Config) -> int:
    """Examples that share statistics and a perturbation in an ascent step."""
    whole_batch = 1 if config.sam.kind == "sum_max" else config.batch_size
    return config.sam.m or whole_batch


def nest(flat: Mapping[str, Any]) -> Config:
    """{"sam.rho": 1} -> an immutable {"sam": {"rho": 1}}."""
    return ml_collections.FrozenConfigDict(_nest(flat))


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested
