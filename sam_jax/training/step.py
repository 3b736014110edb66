"""One training step, as a pure function on one device."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_jax import data, metrics, transforms
from sam_jax.core import ascent, gradient, implicit, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.objective import Objective
from sam_jax.training import robust
from sam_jax.training.config import Config
from sam_jax.training.parallel import AXIS
from sam_jax.training.state import State

Tree = Any
Array = jax.Array | np.ndarray
Loss = Callable[[jax.Array, jax.Array], jax.Array]
Metrics = dict[str, jax.Array]

# Folded into a step's key for the attack, apart from the keys of steps without one.
ATTACK, PAIR = 1, 2


class Examples(NamedTuple):
    """The data of a run, whole on every device; a batch is an array of indices.

    images: [N, height, width, channels] as stored. given: labels trained on, i32[N].
    true: labels before noise, i32[N]. mean, std: [channels], for normalisation.
    scale: images * scale are in [0, 1], where attacks move them.
    """

    images: Array
    given: Array
    true: Array
    mean: Array
    std: Array
    scale: Array | float = 1.0


class Coefficients(NamedTuple):
    """What a step is given at run time, so that no other value compiles anew.

    learning_rate, rho: of the step. l2: of the penalty l2/2 |w|^2. pairing: weight
    lambda of Eq. 21. All f[], or f[steps] for a whole run.
    """

    learning_rate: Array
    rho: Array
    l2: Array
    pairing: Array | float = 0.0


class Point(NamedTuple):
    """Where and on what a gradient is taken.

    params, batch: at w. ascent_batch: for max_sum, else None.
    rho: ascent radius, f[]. key: of this step, for random perturbations.
    """

    params: Tree
    batch: Tree
    ascent_batch: Tree
    rho: Array
    key: jax.Array


# (loss of logits, coefficients) -> loss of outputs [b, 2, classes]
PairedLoss = Callable[[Loss, Coefficients], Loss]
# (objective, point, mapped axis or None) -> gradient
GradientRule = Callable[[Objective, Point, str | None], Gradient]


def plain_gradient(
    objective: Objective, point: Point, axis_name: str | None
) -> Gradient:
    """The gradient of a step without ascent (ERM)."""
    return gradient.loss_gradient(
        objective, point.params, point.batch, axis_name=axis_name
    )


def ascent_gradient(
    objective: Objective,
    point: Point,
    axis_name: str | None,
    *,
    settings: Config,
) -> Gradient:
    """The gradient of a step with ascent, by config.sam."""
    mask = transforms.norm_layers(point.params) if settings.only_norm else None
    if settings.kind == "sum_max":
        return implicit.gradient(
            objective,
            point.params,
            point.batch,
            rho=point.rho,
            m=settings.m or 1,
            normalize=settings.perturbation == "normalized",
            chunk=settings.chunk or None,
            mask=mask,
            axis_name=axis_name,
        )
    swaps = {"sam_direction": "direction", "sam_derivative": "derivative"}
    result = gradient.sharpness_aware_gradient(
        objective,
        point.params,
        point.batch,
        rho=point.rho,
        m=settings.m or None,
        swap=swaps.get(settings.kind),
        rule=make_rule(settings, point.key),
        ascent_steps=settings.ascent_steps,
        ascent_step_size=settings.ascent_step_size or None,
        mask=mask,
        ascent_batch=point.ascent_batch,
        chunk=settings.chunk or None,
        axis_name=axis_name,
    )
    if settings.kind == "gsam":
        direction = gradient.surrogate_gap(
            result.clean, result.gradient, settings.alpha
        )
        result = result._replace(gradient=direction)
    return result


def make_rule(settings: Config, key: jax.Array) -> ascent.Rule:
    """The perturbation rule of config.sam; a random one draws from `key`."""
    return {
        "normalized": ascent.normalized,
        "unnormalized": ascent.unnormalized,
        "adaptive": ascent.adaptive(settings.eta),
        "layerwise": ascent.layerwise,
        "random": ascent.random(key),
    }[settings.perturbation]


def train_step(
    state: State,
    examples: Examples,
    coefficients: Coefficients,
    indices: Array,
    ascent_indices: Array | None = None,
    *,
    module: nn.Module,
    loss: Loss,
    rule: GradientRule,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    axis_name: str | None,
    adversary: robust.Adversary | None = None,
    paired: PairedLoss | None = None,
) -> tuple[State, Metrics]:
    """Augments a batch, attacks it, takes its gradient, and moves the weights.

    Running statistics are those of the pass at w alone, whatever the ascent.

    Args:
      state, examples, coefficients: the same on every device.
      indices: this device's part of the batch, i32[b]. ascent_indices: for max_sum.
      module: called with (images, train).
      loss: (logits, labels) -> per-example losses.
      rule: plain_gradient or ascent_gradient.
      optimizer: gradient -> direction of descent.
      augment: (keys [b], images [b, ...]) -> images.
      adversary: attacks the batch at w; None for clean training.
      paired: loss of attacked and other images; None for that of attacked ones alone.

    Returns: the new state, and means over the global batch at w: loss (without the
      penalty), error, gradient_norm, ascent_norm.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    augment_key, ascent_key, rule_key = jax.random.split(key, 3)
    load = functools.partial(
        load_batch, examples=examples, augment=augment, axis_name=axis_name
    )
    batch = load(augment_key, indices)
    if adversary is not None:
        other = batch["images"]
        if paired is not None and not adversary.trades:
            other = load(jax.random.fold_in(key, PAIR), indices)["images"]
        keys = example_keys(
            jax.random.fold_in(key, ATTACK), indices.shape[0], axis_name
        )
        batch = attack_batch(adversary, module, state, examples, keys, batch)
        if paired is not None:
            batch["other"] = other
            loss = paired(loss, coefficients)
    point = Point(
        state.params,
        batch,
        None if ascent_indices is None else load(ascent_key, ascent_indices),
        coefficients.rho,
        rule_key,
    )
    objective = make_objective(module, state.batch_stats, loss, coefficients.l2)
    result = rule(objective, point, axis_name)
    direction, opt_state = optimizer.update(
        result.gradient, state.opt_state, state.params
    )
    params = trees.add_scaled(state.params, -coefficients.learning_rate, direction)
    ema = state.ema_params
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1 - ema_decay)
    new_state = State(params, result.aux, opt_state, ema, state.key, state.step + 1)
    return new_state, _measure(result, point.batch, axis_name)


def make_objective(
    module: nn.Module, batch_stats: Tree, loss: Loss, l2: Array
) -> Objective:
    """Mean loss plus l2/2 |w|^2 over all parameters, biases and norm layers too.

    Its aux are the updated running statistics.
    """

    def predict(params, batch):
        variables = {"params": params, "batch_stats": batch_stats}
        run = functools.partial(
            module.apply, variables, train=True, mutable=["batch_stats"]
        )
        logits, updated = run(batch["images"])
        if "other" in batch:
            # A pass of its own, with statistics of its own that nothing keeps.
            logits = jnp.stack([logits, run(batch["other"])[0]], axis=1)
        return logits, updated.get("batch_stats", {})

    def penalty(params):
        square = trees.dot(params, params)
        return 0.5 * jnp.asarray(l2, square.dtype) * square

    return Objective(
        predict,
        lambda logits, batch: loss(logits, batch["labels"]),
        penalty,
        has_aux=True,
    )


def attack_batch(
    adversary: robust.Adversary,
    module: nn.Module,
    state: State,
    examples: Examples,
    keys: jax.Array,
    batch: dict[str, Array],
) -> dict[str, Array]:
    """The batch with attacked images, the network in train mode (see `robust`)."""
    pixels = robust.Pixels(examples.mean, examples.std, examples.scale)

    def predict(images):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return module.apply(
            variables, pixels.normalized(images), train=True, mutable=["batch_stats"]
        )[0]

    images = pixels.unit(jnp.asarray(batch["images"]))
    points = robust.attack(
        adversary, predict, keys, images, jnp.asarray(batch["labels"])
    )
    return {**batch, "images": pixels.normalized(points)}


def load_batch(
    key: jax.Array,
    indices: Array,
    *,
    examples: Examples,
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    axis_name: str | None,
) -> dict[str, Array]:
    """Gathers, augments and normalises this device's part of a batch.

    Every example has a key of its own, by its place in the global batch: the images
    do not depend on the number of devices.
    """
    keys = example_keys(key, indices.shape[0], axis_name)
    images = augment(keys, jnp.asarray(examples.images)[indices])
    return {
        "images": data.normalize(images, examples.mean, examples.std),
        "labels": examples.given[indices],
    }


def example_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """Keys [count] of this device's examples, from those of the global batch."""
    if axis_name is None:
        return jax.random.split(key, count)
    keys = jax.random.split(key, count * jax.lax.axis_size(axis_name))
    start = count * jax.lax.axis_index(axis_name)
    return jax.lax.dynamic_slice_in_dim(keys, start, count)


def normalization_axes(m: int, batch_size: int, devices: int) -> dict[str, Any]:
    """Over which devices BatchNorm averages, so that statistics are those of a group.

    Args:
      m: examples that share statistics, counted over all devices.

    Returns: options for `models.create`: none where a device holds whole groups.
    """
    local = batch_size // devices
    if devices == 1 or m <= local:
        return {}
    width = m // local
    if width == devices:
        return {"axis_name": AXIS}
    spans = tuple(tuple(range(i, i + width)) for i in range(0, devices, width))
    return {"axis_name": AXIS, "axis_index_groups": spans}


def _measure(result: Gradient, batch: Tree, axis_name: str | None) -> Metrics:
    # Of a pair the first is the attacked image.
    logits = result.outputs[:, 0] if "other" in batch else result.outputs
    wrong = metrics.errors(logits, batch["labels"])
    assert result.losses is not None  # they come with an Objective
    measured = {"loss": jnp.mean(result.losses), "error": jnp.mean(wrong)}
    if axis_name is not None:
        measured = jax.lax.pmean(measured, axis_name)
    measured["gradient_norm"] = trees.norm(result.gradient)
    measured["ascent_norm"] = result.ascent_norm
    return measured
