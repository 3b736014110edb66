"""The training step against an optax chain, for every variant and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_jax
from sam_jax import losses
from sam_jax.core import trees
from sam_jax.training import configuration, step
from sam_jax.transforms import VARIANTS
from tests.training.steps import (
    BATCH,
    BATCHES,
    IMAGES,
    L2,
    LABELS,
    MEAN,
    RATE,
    STD,
    Smooth,
    close,
    other_half,
    settings,
    take_steps,
)

# A value other than the default for every option that a configuration can set; groups
# of a single example at once are a chunk of them.
VALUES = {
    "normalize": {"normalize": False},
    "ascent_steps": {"ascent_steps": 3},
    "ascent_step_size": {"ascent_step_size": 0.2, "ascent_steps": 2},
    "m": {"m": 4},
    "chunk": {"m": 6, "chunk": 1},
    "eta": {"eta": 0.2},
    "alpha": {"alpha": 0.7},
    "sigma": {"sigma": 0.5},
    "decay": {"decay": 0.5},
    "theta": {"theta": 0.7},
    "momentum": {"momentum": 0.5},
    "gamma": {"gamma": 0.6},
    "trace_weight": {"trace_weight": 0.5},
    "slope_weight": {"slope_weight": 0.5},
    "fisher_weight": {"fisher_weight": 9.0},
    "quantile": {"quantile": 0.5},
    "budget": {"budget": 0.05},
    "sparsity": {"sparsity": 0.8},
    "keep": {"keep": 0.9},
    "select": {"select": 0.8},
    "tail": {"tail": (1, 2)},
    "counts": {"counts": (9, 2, 2)},
    "focus": {"focus": 3.0},
    "strength": {"strength": 0.5},
    "threshold": {"threshold": -1.0},
    "back_steps": {"back_steps": 3},
    "interpolation": {"interpolation": 0.8},
    "refresh": {"refresh": 1},
    "temperature": {"temperature": 1.0},
}
# What some variants cannot do without; `saf` has no stored outputs in training.
NEEDED = {"imb_sam": {"tail": (1,)}, "focal_sam": {"counts": (5, 2, 1)}}
# Of the paper's variants, and others with code of their own for options: one by one.
ONE_BY_ONE = {"sam", "sum_max", "max_sum", "sam_direction", "sam_derivative", "asam"}


def option_cases(name, variant):
    """What to set in place of an option's default: none, each, or all together."""
    own = [o for o in configuration.VARIANT_OPTIONS.values() if o in variant.options]
    if name in ONE_BY_ONE:
        return [{}, *(VALUES[option] for option in own)]
    together = dict(NEEDED.get(name, {}))
    for option in own:
        together |= VALUES[option]
    return [together]


CASES = [
    (name, options)
    for name, variant in VARIANTS.items()
    if name != "saf"
    for options in option_cases(name, variant)
]


def load(indices):
    return {"images": (IMAGES[indices] - MEAN) / STD, "labels": LABELS[indices]}


def chain_steps(transform, objective, params, on_own_batch=False):
    """The parameters after every batch, by an optax chain and without train_step."""
    tx = optax.chain(transform, optax.sgd(RATE, momentum=0.9))
    opt_state = tx.init(params)

    @jax.jit
    def update(params, opt_state, batch, ascent_batch, key):
        grads = jax.grad(objective.value)(params, batch)
        return tx.update(
            grads,
            opt_state,
            params,
            objective=objective,
            batch=batch,
            ascent_batch=ascent_batch,
            ascent_key=key,
        )

    for t, indices in enumerate(BATCHES):
        batch, other = map(load, (indices, other_half(indices)))
        step_key = jax.random.fold_in(jax.random.key(0), t)
        key = jax.random.split(step_key, 3)[2]  # after augmentation and ascent batch
        updates, opt_state = update(
            params, opt_state, batch, other if on_own_batch else None, key
        )
        params = optax.apply_updates(params, updates)
        yield params


@pytest.mark.program
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_variant_steps_like_its_optax_transformation(name, options):
    changes = {f"sam__{key}": value for key, value in options.items()}
    config = settings(sam__kind=name, batch_size=BATCH, **changes)
    variant, module = VARIANTS[name], Smooth()
    own = variant.ascends_on_own_batch
    states, _ = take_steps(module, config, on_own_batch=own)
    if "implicit" in variant.options:  # another path than the training step's
        options = {"implicit": False, **options}
    objective = step.make_objective(module, {}, losses.cross_entropy, np.array(L2))
    chain = chain_steps(
        variant.transformation(0.4, **options), objective, states[0].params, own
    )
    for now, expected in zip(states[1:], chain, strict=True):
        close(now.params, expected, rtol=1e-10)
    *_, plain = chain_steps(optax.identity(), objective, states[0].params)
    moved = trees.norm(jax.tree.map(jnp.subtract, states[-1].params, plain))
    assert moved > 1e-4  # these were no plain steps


@pytest.mark.parametrize(
    ("kind", "key", "mask"),
    [
        ("sam", "sam__only_norm", sam_jax.norm_layers),
        ("layerwise_sam", "sam__only_kernels", sam_jax.kernels),
    ],
)
def test_a_part_of_the_leaves_is_perturbed_as_by_only(kind, key, mask):
    config = settings(sam__kind=kind, batch_size=BATCH, **{key: True})
    states, _ = take_steps(Smooth(), config)
    objective = step.make_objective(Smooth(), {}, losses.cross_entropy, np.array(L2))
    masked = sam_jax.only(mask, VARIANTS[kind].transformation(0.4))
    chain = chain_steps(masked, objective, states[0].params)
    for now, expected in zip(states[1:], chain, strict=True):
        close(now.params, expected, rtol=1e-10)
