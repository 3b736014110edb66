"""One training step, as a pure function on one device."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_jax import metrics
from sam_jax.attacks.adversary import Adversary
from sam_jax.core import gradient, groups, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.objective import Objective, l2_penalty
from sam_jax.training.examples import Augment, Batch, Examples, example_keys
from sam_jax.training.network import training_logits
from sam_jax.training.parallel import AXIS
from sam_jax.training.robust import Pair
from sam_jax.training.state import State
from sam_jax.transforms import Point

Tree = Any
Array = jax.Array | np.ndarray
Loss = Callable[[Any, jax.Array], jax.Array]
Metrics = dict[str, jax.Array]
Mask = Callable[[Tree], Tree]

# Folded into a step's key, so that the attack, the other view of an image and dropout
# draw random numbers of their own.
ATTACK, PAIR, DROPOUT = 1, 2, 3


class Coefficients(NamedTuple):
    """What a step is given at run time, so that no other value compiles anew.

    learning_rate, rho: of the step. l2: of the penalty l2/2 |w|^2. pairing: weight
    lambda of Eq. 21. All f[], or f[steps] for a whole run.
    """

    learning_rate: Array
    rho: Array
    l2: Array
    pairing: Array | float = 0.0


# (loss of logits, coefficients) -> loss of a Pair of logits
PairedLoss = Callable[[Loss, Coefficients], Loss]


def plain_gradient(point: Point) -> Gradient:
    """The gradient of a step without ascent (ERM), of an Objective."""
    assert isinstance(point.oracle, Objective)
    return gradient.loss_gradient(
        point.oracle, point.params, point.batch, axis_name=point.axis_name
    )


def train_step(
    state: State,
    examples: Examples,
    coefficients: Coefficients,
    indices: Array,
    ascent_indices: Array | None = None,
    *,
    module: nn.Module,
    loss: Loss,
    take_gradient: Callable[[Point], Gradient],
    mask: Mask | None = None,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    augment: Augment,
    axis_name: str | None,
    adversary: Adversary | None = None,
    paired: PairedLoss | None = None,
    draws: bool = False,
) -> tuple[State, Metrics]:
    """Augments a batch, attacks it, takes its gradient, and moves the weights.

    Running statistics are those of the pass at w alone, whatever the ascent.

    Args:
      state, examples, coefficients: the same on every device.
      indices: this device's part of the batch, i32[b]. ascent_indices: those of the
        batch to ascend on, for a variant that has one of its own.
      module: called with (images, train).
      loss: (logits, labels) -> per-example losses.
      take_gradient: plain_gradient, or that of a variant with its options.
      mask: params -> bools, the leaves that are perturbed; None for all.
      optimizer: gradient -> direction of descent.
      augment: (keys [b], images [b, ...]) -> images.
      adversary: attacks the batch at w; None for clean training.
      paired: loss of attacked and other images; None for that of attacked ones alone.
      draws: whether the network has dropout. The passes of a step draw the same masks,
        from the key of the first example in a group or on a device: those of another
        number of devices are other ones.

    Returns: the new state, and means over the global batch at w: loss (without the
      penalty), error, gradient_norm, ascent_norm.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    augment_key, ascent_key, perturbation_key = jax.random.split(key, 3)

    def load(key: jax.Array, indices: Array) -> Batch:
        count = indices.shape[0]
        keys = example_keys(key, count, axis_name)
        loaded = examples.batch(indices, functools.partial(augment, keys))
        if draws:
            dropout = jax.random.fold_in(key, DROPOUT)
            loaded["dropout"] = example_keys(dropout, count, axis_name)
        return loaded

    batch = load(augment_key, indices)
    if adversary is not None:
        keys = example_keys(
            jax.random.fold_in(key, ATTACK), indices.shape[0], axis_name
        )
        clean, batch = (
            batch,
            attack_batch(adversary, module, state, examples, keys, batch),
        )
        if paired is not None:
            other = clean
            if not adversary.trades:
                other = load(jax.random.fold_in(key, PAIR), indices)
            batch["images"] = Pair(batch["images"], other["images"])
            loss = paired(loss, coefficients)
    point = Point(
        make_objective(module, state.batch_stats, loss, coefficients.l2),
        state.params,
        batch,
        coefficients.rho,
        ascent_batch=(
            None if ascent_indices is None else load(ascent_key, ascent_indices)
        ),
        mask=None if mask is None else mask(state.params),
        key=perturbation_key,
        axis_name=axis_name,
        state=state.variant,
    )
    result = take_gradient(point)
    new_state = apply_gradient(
        state, result, coefficients.learning_rate, optimizer, ema_decay
    )
    return new_state, _measure(result, batch, axis_name)


def apply_gradient(
    state: State,
    result: Gradient,
    learning_rate: Array,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
) -> State:
    """The state after a step along a gradient; it keeps the clean pass's statistics.

    The variant's state stands still in a plain step.
    """
    direction, opt_state = optimizer.update(
        result.gradient, state.opt_state, state.params
    )
    params = trees.add_scaled(state.params, -learning_rate, direction)
    ema = state.ema_params
    if ema is not None:
        ema = optax.incremental_update(params, ema, 1 - ema_decay)
    variant = state.variant if result.state is None else result.state
    return State(params, result.aux, opt_state, ema, state.key, state.step + 1, variant)


def make_objective(
    module: nn.Module, batch_stats: Tree, loss: Loss, l2: Array
) -> Objective:
    """Mean loss plus l2/2 |w|^2 over all parameters; aux are the new statistics.

    For a Pair of images the outputs are the Pair of their logits.
    """
    run = functools.partial(training_logits, module)

    def predict(params: Tree, batch: Batch) -> tuple[Any, Tree]:
        images = batch["images"]
        if not isinstance(images, Pair):
            return run(params, batch_stats, images, _first_key(batch))
        key = _first_key(batch)
        attacked, updated = run(params, batch_stats, images.attacked, key)
        # A pass of its own, with statistics of its own that nothing keeps.
        other, _ = run(params, batch_stats, images.other, key)
        return Pair(attacked, other), updated

    return Objective(
        jax.jit(predict),  # traced once for the passes at w and at SAM's point
        lambda logits, batch: loss(logits, batch["labels"]),
        l2_penalty(l2),
        has_aux=True,
    )


def _first_key(batch: Batch) -> jax.Array | None:
    """The key of dropout in a pass over a batch or a group; None for no dropout."""
    return batch["dropout"][0] if "dropout" in batch else None


def attack_batch(
    adversary: Adversary,
    module: nn.Module,
    state: State,
    examples: Examples,
    keys: jax.Array,
    batch: Batch,
) -> Batch:
    """The batch with attacked images, the network in train mode (see `robust`)."""
    pixels = examples.pixels

    def predict(images: jax.Array) -> jax.Array:
        images = pixels.normalized(images)
        given = module, state.params, state.batch_stats, images, _first_key(batch)
        return training_logits(*given)[0]

    images = pixels.unit(jnp.asarray(batch["images"]))
    points = adversary.attack(predict, keys, images, jnp.asarray(batch["labels"]))
    return {**batch, "images": pixels.normalized(points)}


def normalization_axes(m: int, batch_size: int, devices: int) -> dict[str, Any]:
    """Over which devices BatchNorm averages, so that statistics are those of a group.

    Args:
      m: examples that share statistics, counted over all devices.

    Returns: options for `models.create`: none where a device holds whole groups.
    """
    local = batch_size // devices
    if devices == 1 or m <= local:
        return {}
    if m == batch_size:
        return {"axis_name": AXIS}
    shared = groups.spans(m // local, devices)
    return {"axis_name": AXIS, "axis_index_groups": shared}


def _measure(result: Gradient, batch: Batch, axis_name: str | None) -> Metrics:
    logits = result.outputs
    if isinstance(logits, Pair):
        logits = logits.attacked
    wrong = metrics.errors(logits, batch["labels"])
    assert result.losses is not None  # they come with an Objective
    measured = {"loss": jnp.mean(result.losses), "error": jnp.mean(wrong)}
    if axis_name is not None:
        measured = jax.lax.pmean(measured, axis_name)
    measured["gradient_norm"] = trees.norm(result.gradient)
    measured["ascent_norm"] = result.ascent_norm
    return measured
