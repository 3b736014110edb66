"""How the keys of a configuration fit together, with each other and with the data."""

from collections.abc import Mapping
from typing import Any

from sam_jax.core import groups
from sam_jax.training import partition
from sam_jax.training.errors import ConfigError
from sam_jax.training.keys import KEYS, LOSS_OPTIONS, VARIANT_OPTIONS
from sam_jax.transforms import VARIANTS

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


def check(c: Mapping[str, Any]) -> None:
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


def check_classes(config: Any, classes: int) -> None:
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


def ascends_on_own_batch(kind: str) -> bool:
    """Whether a kind of step takes a batch of its own to ascend on."""
    return kind != "erm" and VARIANTS[kind].ascends_on_own_batch


def group_size(config: Any) -> int:
    """Examples that share statistics and a perturbation in an ascent step."""
    return _group(config.sam.kind, config.sam.m, config.batch_size)


def _group(kind: str, m: int, batch_size: int) -> int:
    if kind == "erm":
        return batch_size
    return int(m or VARIANTS[kind].options.get("m") or batch_size)
