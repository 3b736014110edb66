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

from sam_jax.training import consistency
from sam_jax.training.errors import ConfigError
from sam_jax.training.key_types import Change
from sam_jax.training.keys import (
    KEYS,
    MAPPINGS,
    VARIANT_OPTIONS,
    names,
)
from sam_jax.transforms import VARIANTS

# A checked configuration, or a part of it: a FrozenConfigDict. Its keys are attributes
# that no type checker knows.
Config = Any


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
    consistency.check(checked)
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


def nest(flat: Mapping[str, Any]) -> Config:
    """{"sam.rho": 1} -> an immutable {"sam": {"rho": 1}}."""
    return ml_collections.FrozenConfigDict(_nest(flat))


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.unflatten_dict(dict(flat), sep=".")
