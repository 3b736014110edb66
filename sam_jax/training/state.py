"""Everything that changes from step to step, and the optimiser that changes it."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from sam_jax import models
from sam_jax.training import optimizers
from sam_jax.training.configuration import Config

Tree = Any


class State(NamedTuple):
    """The training state; a checkpoint is all of it.

    params: weights. batch_stats: running statistics of BatchNorm, {} without it.
    opt_state: of the optax chain. ema_params: moving average of params, None if off.
    key: u32[...], data of the run's key; step t uses it folded with t.
    step: steps taken, i32[].
    variant: of the SAM variant, for one that has a state; None otherwise.
    """

    params: Tree
    batch_stats: Tree
    opt_state: Tree
    ema_params: Tree
    key: jax.Array
    step: jax.Array
    variant: Tree = None


def create(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    image_shape: tuple[int, ...],
    dtype: Any,
    ema: bool,
    input_dtype: Any = jnp.float32,
) -> State:
    """The state before the first step.

    Args:
      module: called with (images, train).
      image_shape: (height, width, channels), or (length,) of text.
      dtype: of the parameters.
      ema: whether a moving average of the weights is kept; it starts at the weights.
      input_dtype: of what the module is called with, see `models.start`.
    """
    dtypes = jnp.dtype(dtype), jnp.dtype(input_dtype)
    key = jax.random.key(seed)
    return _create(key, module, optimizer, image_shape, dtypes, ema)


# One program instead of one for every shape of a parameter, and traced once a module.
@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _create(
    key: jax.Array,
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    dtypes: tuple[Any, Any],
    ema: bool,
) -> State:
    init_key, step_key = jax.random.split(key)
    variables = models.start(module, init_key, image_shape, *dtypes)
    params = variables["params"]
    return State(
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        ema_params=_copy(params) if ema else None,
        key=jax.random.key_data(step_key),
        step=jnp.zeros((), jnp.int32),
    )


def start_from(state: State, params: Tree, batch_stats: Tree) -> State:
    """Fine-tuning: another run's weights, and an optimiser that has seen nothing."""
    ema = None if state.ema_params is None else _copy(params)
    return state._replace(params=params, batch_stats=batch_stats, ema_params=ema)


def make_optimizer(
    settings: Config,
) -> optax.GradientTransformation:
    """The chain from a gradient (plain or sharpness-aware) to a direction of descent.

    The step subtracts the learning rate times this direction. Clipping acts on the
    gradient; decay is decoupled (Loshchilov & Hutter 2019): added after momentum, Adam
    or Muon. The l2 penalty is no part of it: it is in the objective, and in the ascent.

    sgd and adam decay all leaves. adamw is adam that spares biases and norm scales, as
    transformers are trained. muon (Jordan 2024, `optax.contrib.muon`) orthogonalises
    the momentum of hidden kernels, and is adamw on all other leaves.

    Args:
      settings: config.optimizer.
    """
    links = []
    if settings.gradient_clip > 0:
        links.append(optax.clip_by_global_norm(settings.gradient_clip))
    if settings.name in ("adam", "adamw"):
        moments = settings.beta1, settings.beta2, settings.epsilon
        links.append(optax.scale_by_adam(*moments, nesterov=settings.nesterov))
    elif settings.name == "muon":
        links.append(optimizers.muon(settings))
    elif settings.momentum > 0:
        links.append(optax.trace(settings.momentum, settings.nesterov))
    if settings.weight_decay > 0:
        spares = settings.name in ("adamw", "muon")
        mask = optimizers.decayed if spares else None
        links.append(optax.add_decayed_weights(settings.weight_decay, mask))
    return optax.chain(*links) if links else optax.identity()


def _copy(tree: Tree) -> Tree:
    """Arrays of their own: a step takes over the memory of the whole state."""
    return jax.tree.map(jnp.copy, tree)
