"""A run's configuration: checked, compared, stored, and read again from old files."""

import difflib
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
from flax import traverse_util

from sam_jax.core import groups
from sam_jax.training import partition
from sam_jax.training.key_types import Change
from sam_jax.training.keys import (
    KEYS,
    LOSS_OPTIONS,
    MAPPINGS,
    VARIANT_OPTIONS,
    names,
)
from sam_jax.transforms import VARIANTS

# A checked configuration, or a part of it: a FrozenConfigDict. Its keys are attributes
# that no type checker knows.
Config = Any

PARALLEL = "parallel.kind"
# Variants that a run cannot take as they are: the key to be set, and what to do.
NEEDS: dict[str, tuple[str | None, str]] = {
    "saf": (None, "a run keeps no outputs of earlier epochs for it. Use 'mesa'."),
    "imb_sam": ("sam.tail", "name the rare classes, such as sam.tail=(7, 9)."),
    "focal_sam": (
        "sam.counts",
        "give the training examples of every class, such as sam.counts=(500, 50, 5).",
    ),
}


class ConfigError(ValueError):
    """A configuration that no run can be made of; the message is one line."""


def base() -> ml_collections.ConfigDict:
    """Every key at its default: what a recipe starts from."""
    return ml_collections.ConfigDict(
        _nest({name: key.default for name, key in KEYS.items()})
    )


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
                f"The config lacks the key {name!r} ({KEYS[name].meaning}); start from "
                "sam_jax.training.configuration.base(), which has every key."
            )
    checked = {name: _convert(name, values[name]) for name in KEYS}
    _check_together(checked)
    return nest(checked)


def check_key(name: str) -> None:
    """Raises ConfigError, with the nearest key there is, if no key has this name."""
    if name not in KEYS and not name.startswith(tuple(f"{m}." for m in MAPPINGS)):
        near = difflib.get_close_matches(name, KEYS, n=1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else "sam_jax/training/keys.py has all."
        )
        raise ConfigError(f"Unknown config key {name!r}; {hint}")


def flatten(config: Any) -> dict[str, Any]:
    """{"sam": {"rho": 1}} -> {"sam.rho": 1}; dictionaries that are values stay."""
    nested = config if isinstance(config, dict) else config.to_dict()
    return traverse_util.flatten_dict(
        nested, sep=".", is_leaf=lambda path, _: ".".join(path) in MAPPINGS
    )


def without(config: Config, *changes: Change) -> dict[str, Any]:
    """A flat configuration less the keys whose other values ask for one of these."""
    left_out = names(*changes)
    return {k: v for k, v in flatten(config).items() if k not in left_out}


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """A flat configuration of an older version, in today's keys.

    A key that is missing gets its default, which is what the older version did. What
    `sam.perturbation` said is a variant, or `sam.normalize`, today.

    Raises: ConfigError as `translate`.
    """
    return {name: key.default for name, key in KEYS.items()} | translate(values)


def translate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Some keys of an older version, flat, under today's names; the others as they are.

    Raises: ConfigError for a combination that no variant has any more.
    """
    values = dict(values)
    if "sam.perturbation" in values:
        values |= _without_perturbation(values.pop("sam.perturbation"), values)
    return values


def _without_perturbation(old: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that say what `sam.perturbation` said beside `sam.kind`."""
    if old in ("normalized", "unnormalized"):
        return {"sam.normalize": old == "normalized"}
    names = {
        "adaptive": "asam",
        "layerwise": "layerwise_sam",
        "random": "random_perturbation",
    }
    kind = values.get("sam.kind", "sam")
    if kind == "erm":
        return {}
    if kind != "sam" or old not in names:
        raise ConfigError(
            f"An older version of sam_jax wrote sam.perturbation={old!r} with "
            f"sam.kind={kind!r}; no variant has both any more; read it with "
            "that version."
        )
    return {"sam.kind": names[old]}


def read(path: str | os.PathLike[str]) -> ml_collections.ConfigDict:
    """A stored config.json, of this or of an older version, in today's keys.

    Raises: ConfigError for a file that holds no configuration.
    """
    try:
        stored = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is no JSON ({error}); choose another --workdir, or delete it."
        ) from None
    if not isinstance(stored, dict):
        raise ConfigError(
            f"{path} holds {stored!r}, which is no configuration; choose another "
            "--workdir, or delete it."
        )
    return ml_collections.ConfigDict(_nest(complete(flatten(stored))))


def differences(old: Config, new: Config) -> list[str]:
    """The keys that differ between two configs, as "sam.rho: 0.1 -> 0.2".

    Both may be of an older version, see `complete`.
    """
    before, after = (flatten(plain(complete(flatten(c)))) for c in (old, new))
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def plain(config: Config) -> dict[str, Any]:
    """Nested dicts, lists and numbers: what JSON holds."""
    return _nest({name: _listed(value) for name, value in flatten(config).items()})


def _listed(value: Any) -> Any:
    """Tuples as lists, also within dictionaries."""
    if isinstance(value, dict):
        return {name: _listed(part) for name, part in value.items()}
    return list(map(_listed, value)) if isinstance(value, tuple | list) else value


def fingerprint(config: Config) -> str:
    """A hash of everything in a configuration that results depend on.

    Keys at their defaults do not count, so that a key to come does not change it.
    """
    values, defaults = without(plain(config), Change.RESUME), flatten(plain(base()))
    chosen = {k: value for k, value in values.items() if value != defaults[k]}
    text = json.dumps(chosen, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _convert(name: str, value: Any) -> Any:
    key = KEYS[name]
    try:
        return key.convert(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"Received {name}={value!r}; it must be {key.allowed} ({key.meaning})."
        ) from None


def _check_together(c: Mapping[str, Any]) -> None:
    """What one key allows another. Fits to the devices are checked where they are."""
    _check_variant(c)
    _check_loss(c)
    _check_attack(c)
    _check_parallel(c)
    if c["sam.kind"] != "erm" and c["sam.start_epoch"] >= c["epochs"]:
        raise ConfigError(
            f"Received sam.start_epoch={c['sam.start_epoch']} for epochs={c['epochs']}"
            "; no step would ascend. Start earlier, or set sam.kind='erm'."
        )
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


def _check_variant(c: Mapping[str, Any]) -> None:
    """Options that the variant has, and groups that fill the batch."""
    kind = c["sam.kind"]
    if kind == "erm":
        return
    for name, option in VARIANT_OPTIONS.items():
        if option not in VARIANTS[kind].options and c[name] != KEYS[name].default:
            takers = [n for n, v in VARIANTS.items() if option in v.options]
            raise ConfigError(
                f"Received {name}={c[name]!r} with sam.kind={kind!r}, which has no "
                f"such option; set {KEYS[name].default!r}, or one of the kinds that "
                f"have it: {', '.join(takers)}."
            )
    if kind in NEEDS:
        key, words = NEEDS[kind]
        if key is None or not c[key]:
            raise ConfigError(f"Received sam.kind={kind!r}; {words}")
    if c["sam.only_norm"] and c["sam.only_kernels"]:
        raise ConfigError(
            "Received sam.only_norm=True with sam.only_kernels=True; no leaf is both, "
            "and nothing would be perturbed. Set one of them to False."
        )
    m = _group(kind, c["sam.m"], c["batch_size"])
    check_groups(m, c["batch_size"])


def check_classes(config: Config, classes: int) -> None:
    """Raises ConfigError for rare classes, or counts, that are not of these classes."""
    tail, counts = config.sam.tail, config.sam.counts
    if any(not 0 <= label < classes for label in tail):
        raise ConfigError(
            f"Received sam.tail={tuple(tail)} for {classes} classes; give numbers from "
            f"0 to {classes - 1}."
        )
    if counts and (len(counts) != classes or min(counts) < 0):
        raise ConfigError(
            f"Received sam.counts={tuple(counts)} for {classes} classes; give the "
            "training examples of every class."
        )


def _check_loss(c: Mapping[str, Any]) -> None:
    """Options that the loss has."""
    for key, (name, _) in LOSS_OPTIONS.items():
        if c["loss.name"] != name and c[key] != KEYS[key].default:
            raise ConfigError(
                f"Received {key}={c[key]!r} with loss.name={c['loss.name']!r}, which "
                f"has no such option; set {KEYS[key].default!r}, or loss.name={name!r}."
            )


def check_groups(m: int, batch_size: int, devices: int = 1) -> None:
    """Raises ConfigError unless groups of m fill a batch on so many devices."""
    try:
        groups.check_fit(m, batch_size, devices)
    except ValueError as error:
        raise ConfigError(f"sam.m, batch_size: {error}") from None


def _check_attack(c: Mapping[str, Any]) -> None:
    """What an attack needs, and what goes with it."""
    kind = c["attack.kind"]
    if (kind != "none" or c["attack.eval_steps"]) and c["attack.eps"] == 0:
        raise ConfigError(
            f"Received attack.eps=0 with attack.kind={kind!r}, attack.eval_steps="
            f"{c['attack.eval_steps']}; give a radius above 0, such as 8 / 255, or "
            "attack.kind='none' and attack.eval_steps=0."
        )
    if kind != "none" and ascends_on_own_batch(c["sam.kind"]):
        raise ConfigError(
            f"Received sam.kind={c['sam.kind']!r} with an attack; its ascent batch "
            "would not be attacked. Use sam.kind='sam'."
        )
    if c["pairing.weight"] and kind != "adversarial":
        raise ConfigError(
            f"Received pairing.weight={c['pairing.weight']} with attack.kind={kind!r}; "
            "the term pairs attacked with other images: set attack.kind='adversarial'."
        )


def _check_parallel(c: Mapping[str, Any]) -> None:
    """Keys of a mesh where there is one, and rules that can be read."""
    for name in (k for k in KEYS if k.startswith("parallel.") and k != PARALLEL):
        if c[PARALLEL] == "pmap" and c[name] != KEYS[name].default:
            raise ConfigError(
                f"Received {name}={c[name]!r} with {PARALLEL}='pmap', which has no "
                f"mesh and shards nothing; set {KEYS[name].default!r}, or "
                f"{PARALLEL}='sharded'."
            )
    try:
        partition.parse(c["parallel.rules"])
    except ValueError as error:
        raise ConfigError(f"parallel.rules: {error}") from None


def variant_options(config: Config) -> dict[str, Any]:
    """The options of a run's SAM variant that its configuration sets."""
    options = {
        name: getattr(config.sam, option)
        for name, option in VARIANT_OPTIONS.items()
        if option in VARIANTS[config.sam.kind].options
    }
    return {
        VARIANT_OPTIONS[name]: value
        for name, value in options.items()
        if KEYS[name].unset is None or value != KEYS[name].unset
    }


def ascends_on_own_batch(kind: str) -> bool:
    """Whether a kind of step takes a batch of its own to ascend on."""
    return kind != "erm" and VARIANTS[kind].ascends_on_own_batch


def group_size(config: Config) -> int:
    """Examples that share statistics and a perturbation in an ascent step."""
    return _group(config.sam.kind, config.sam.m, config.batch_size)


def _group(kind: str, m: int, batch_size: int) -> int:
    if kind == "erm":
        return batch_size
    return int(m or VARIANTS[kind].options.get("m") or batch_size)


def nest(flat: Mapping[str, Any]) -> Config:
    """{"sam.rho": 1} -> an immutable {"sam": {"rho": 1}}."""
    return ml_collections.FrozenConfigDict(_nest(flat))


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.unflatten_dict(dict(flat), sep=".")
