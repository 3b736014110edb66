"""Two nets, a data set, and steps taken on them; NumPy's gradient of a linear model."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import losses
from sam_jax.training import configuration, problem, state, step
from sam_jax.training.examples import Examples
from tests.training.problems import tiny

N, D, CLASSES, BATCH = 24, 6, 3, 12
random = np.random.default_rng(0)
IMAGES = random.normal(size=(N, 1, 1, D))
LABELS = random.integers(0, CLASSES, N).astype(np.int32)
MEAN, STD = np.full(D, 0.1), np.full(D, 2.0)
EXAMPLES = Examples(IMAGES, LABELS, LABELS, MEAN, STD)
BATCHES = np.arange(2 * BATCH, dtype=np.int32).reshape(2, BATCH)[:, ::-1].copy()
L2, RATE = 0.3, 0.2


class Smooth(nn.Module):
    """A net that is not linear in its weights."""

    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(len(images), -1)
        x = nn.LayerNorm()(x)
        x = jnp.tanh(nn.Dense(5)(x))
        return nn.Dense(CLASSES)(x)


class Normalized(nn.Module):
    """BatchNorm between two dense layers."""

    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(len(images), -1)
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(not train, momentum=0.9)(x)
        return nn.Dense(CLASSES)(jnp.tanh(x))


def settings(**changes):
    return configuration.check(tiny(**changes))


@functools.cache
def initialize(module):
    return jax.jit(functools.partial(module.init, train=False))(
        jax.random.key(1), IMAGES[:2]
    )


def start(module, optimizer, ema=False, config=None):
    variables = initialize(module)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
    params = variables["params"]
    return state.State(
        params,
        variables.get("batch_stats", {}),
        optimizer.init(params),
        params if ema else None,
        jax.random.key_data(jax.random.key(0)),
        jnp.zeros((), jnp.int32),
        None if config is None else problem.create_variant_state(config, params),
    )


def other_half(indices):
    """A batch to ascend on: the examples that are not in this one."""
    return (indices + BATCH) % N


def take_steps(
    module,
    config,
    *,
    batches=BATCHES,
    rho=0.4,
    l2=L2,
    loss=losses.cross_entropy,
    take_gradient=None,
    ema=False,
    on_own_batch=False,
):
    """The states after each step, by the training step."""
    optimizer = state.make_optimizer(config.optimizer)
    take = jax.jit(
        functools.partial(
            step.train_step,
            module=module,
            loss=loss,
            take_gradient=take_gradient or problem.create_gradient(config),
            mask=problem.create_mask(config),
            optimizer=optimizer,
            ema_decay=config.ema.decay,
            augment=lambda keys, images: images,
            axis_name=None,
        )
    )
    now = start(module, optimizer, ema, config)
    states, measured = [now], []
    for indices in batches:
        coefficients = step.Coefficients(np.array(RATE), np.array(rho), np.array(l2))
        own = (other_half(indices),) if on_own_batch else ()
        now, new = take(now, EXAMPLES, coefficients, indices, *own)
        states.append(now)
        measured.append(new)
    return states, measured


def close(received, expected, rtol=1e-12):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14),
        received,
        expected,
    )


def numpy_gradient(w, x, y, l2=L2):
    """Of mean cross-entropy of x W + b plus l2/2 |w|^2."""
    z = x @ w["kernel"] + w["bias"]
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    kernel, bias = x.T @ p / len(y), p.mean(0)
    return {"kernel": kernel + l2 * w["kernel"], "bias": bias + l2 * w["bias"]}


def norm(tree):
    return np.sqrt(sum(np.sum(x**2) for x in tree.values()))
