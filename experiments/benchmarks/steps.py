"""What a step costs: SAM against the plain step, and the data feed against a step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import networks, rows, timing
from sam_jax import data
from sam_jax.core.gradient import loss_gradient, sharpness_aware_gradient


def sam_against_erm() -> list[rows.Row]:
    """A SAM step is two plain gradients: the goal is <= 2.05 plain steps."""
    measured = []
    for name in ("ResNet-18 w16 8x8", "ResNet-18 w16 32x32"):
        problem = networks.make(name, 128)
        erm = functools.partial(loss_gradient, problem.objective)
        sam = functools.partial(
            sharpness_aware_gradient, problem.objective, rho=jnp.float32(0.1)
        )
        timings = timing.alternate(
            {"ERM": training_step(erm, problem), "SAM": training_step(sam, problem)},
            rounds=20 if "8x8" in name else 6,
        )
        measured.append(
            rows.compare(
                f"SAM / ERM step, {name}, batch 128", timings, "SAM", "ERM", goal=2.05
            )
        )
    return measured


def feed_against_step() -> list[rows.Row]:
    """Gather, crop, mirror and normalise a batch of 128 images of 32x32x3, with the
    order of an epoch drawn, against a plain step: the goal is <= 2%."""
    problem = networks.make("ResNet-18 w16 32x32", 128)
    erm = functools.partial(loss_gradient, problem.objective)
    random = np.random.default_rng(0)
    images = jnp.asarray(random.integers(0, 256, (10_000, 32, 32, 3)), jnp.uint8)

    @jax.jit
    def feed(key, images, indices):
        batch = data.augment(key, images[indices], crop_padding=4, mirror=True)
        return data.normalize(batch, jnp.full(3, 0.5), jnp.full(3, 0.25))

    order = data.epoch_batches(0, 0, len(images), 128)
    key = jax.random.key(0)
    timings = timing.alternate(
        {
            "feed": lambda: feed(key, images, order[3]),
            "step": training_step(erm, problem),
        },
        rounds=8,
    )
    return [
        rows.compare(
            "data feed / ERM step, ResNet-18 w16 32x32",
            timings,
            "feed",
            "step",
            goal=0.02,
        )
    ]


def training_step(gradient, problem: networks.Problem):
    """A call that takes one step of SGD with momentum from wherever it has got to."""
    tx = optax.sgd(0.01, momentum=0.9)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, batch):
        result = gradient(params, batch)
        updates, state = tx.update(result.gradient, state, params)
        return optax.apply_updates(params, updates), state, result.losses

    params = jax.tree.map(jnp.copy, problem.params)
    carried = [params, tx.init(params)]

    def call():
        carried[0], carried[1], losses = step(*carried, problem.batch)
        return losses

    return call
