import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_jax
from sam_jax import losses
from sam_jax.core import trees
from sam_jax.training import configuration, epochs, loop, problem, state, step
from sam_jax.training.examples import example_keys
from sam_jax.transforms import VARIANTS
from tests.training.problems import tiny
from tests.training.steps import (
    BATCH,
    BATCHES,
    EXAMPLES,
    IMAGES,
    L2,
    LABELS,
    MEAN,
    RATE,
    STD,
    D,
    N,
    Normalized,
    Smooth,
    close,
    norm,
    numpy_gradient,
    other_half,
    settings,
    start,
    take_steps,
)


@pytest.mark.parametrize("m", [0, 4, 1])
def test_steps_of_m_sam_with_l2_and_momentum_are_those_of_numpy(m):
    config = settings(sam__kind="sam", sam__m=m, batch_size=BATCH)
    states, measured = take_steps(
        sam_jax.models.create("linear", num_classes=3), config
    )
    w = {k: np.array(v) for k, v in states[0].params["head"].items()}
    buffer = {k: np.zeros_like(v) for k, v in w.items()}
    for t, indices in enumerate(BATCHES):
        x = (IMAGES[indices].reshape(BATCH, D) - MEAN) / STD
        y = LABELS[indices]
        size = m or BATCH
        total = {k: np.zeros_like(v) for k, v in w.items()}
        lengths = []
        for i in range(0, BATCH, size):
            group = x[i : i + size], y[i : i + size]
            g = numpy_gradient(w, *group)
            delta = {k: 0.4 * v / norm(g) for k, v in g.items()}
            lengths.append(norm(delta))
            there = numpy_gradient({k: w[k] + delta[k] for k in w}, *group)
            total = {k: total[k] + there[k] * size / BATCH for k in w}
        buffer = {k: 0.9 * buffer[k] + total[k] for k in w}
        w = {k: w[k] - RATE * buffer[k] for k in w}
        close(states[t + 1].params["head"], w)
        close(measured[t]["ascent_norm"], np.mean(lengths))
        close(measured[t]["gradient_norm"], norm(total))


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


def test_norm_layers_alone_are_perturbed_as_by_only():
    config = settings(sam__kind="sam", sam__only_norm=True, batch_size=BATCH)
    states, _ = take_steps(Smooth(), config)
    objective = step.make_objective(Smooth(), {}, losses.cross_entropy, np.array(L2))
    masked = sam_jax.only(sam_jax.norm_layers, sam_jax.sam(0.4))
    chain = chain_steps(masked, objective, states[0].params)
    for now, expected in zip(states[1:], chain, strict=True):
        close(now.params, expected, rtol=1e-10)


def test_a_plain_step_is_sam_with_rho_zero():
    config = settings(sam__kind="sam")
    plain, _ = take_steps(Smooth(), config, take_gradient=step.plain_gradient)
    ascended, _ = take_steps(Smooth(), config, rho=0.0)
    close(plain[-1].params, ascended[-1].params)
    moved, _ = take_steps(Smooth(), config, rho=0.1)
    assert not np.allclose(
        moved[-1].params["Dense_0"]["kernel"], plain[-1].params["Dense_0"]["kernel"]
    )


def test_a_random_perturbation_has_length_rho_and_a_new_direction_at_every_step():
    # Without a loss the objective is |w|^2 / 2: a step is w - rate * (w + delta).
    def no_loss(logits, labels):
        return 0.0 * logits[:, 0]

    config = settings(sam__kind="random_perturbation", optimizer__momentum=0.0)
    states, _ = take_steps(
        Smooth(), config, batches=BATCHES[[0, 0]], l2=1.0, loss=no_loss
    )
    w = [np.concatenate([*map(np.ravel, jax.tree.leaves(s.params))]) for s in states]
    first, second = ((w[t] - w[t + 1]) / RATE - w[t] for t in (0, 1))
    close(np.linalg.norm([first, second], axis=1), [0.4, 0.4])
    # Independent directions have cosines near zero.
    assert abs(first @ second) < 0.5 * 0.4**2
    again, _ = take_steps(
        Smooth(), config, batches=BATCHES[[0, 0]], l2=1.0, loss=no_loss
    )
    close(again[-1].params, states[-1].params, rtol=0)


def numpy_statistics(module, params, indices):
    x = ((IMAGES[indices] - MEAN) / STD).reshape(len(indices), -1)
    x = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    return x.mean(0), x.var(0)


@pytest.mark.parametrize("ascent_steps", [1, 3])
def test_hazard_09_running_statistics_are_updated_once_from_the_clean_pass(
    ascent_steps,
):
    config = settings(sam__kind="sam", sam__ascent_steps=ascent_steps)
    states, _ = take_steps(Normalized(), config, rho=5.0)
    mean, var = np.zeros(4), np.ones(4)
    for t, indices in enumerate(BATCHES):
        new_mean, new_var = numpy_statistics(Normalized(), states[t].params, indices)
        mean, var = 0.9 * mean + 0.1 * new_mean, 0.9 * var + 0.1 * new_var
        received = states[t + 1].batch_stats["BatchNorm_0"]
        close(received["mean"], mean, rtol=1e-9)
        close(received["var"], var, rtol=1e-9)


def test_running_statistics_of_groups_are_the_mean_of_the_groups_own():
    config = settings(sam__kind="sam", sam__m=4, batch_size=BATCH)
    states, _ = take_steps(Normalized(), config, batches=BATCHES[:1])
    groups = BATCHES[0].reshape(-1, 4)
    own = [numpy_statistics(Normalized(), states[0].params, g) for g in groups]
    received = states[1].batch_stats["BatchNorm_0"]
    close(received["mean"], 0.1 * np.mean([m for m, _ in own], 0), rtol=1e-9)
    close(received["var"], 0.9 + 0.1 * np.mean([v for _, v in own], 0), rtol=1e-9)


def test_hazard_11_l2_is_in_the_ascent_and_weight_decay_is_not():
    batch, linear = BATCHES[:1], sam_jax.models.create("linear", num_classes=3)
    plain = {"sam__kind": "sam", "optimizer__momentum": 0.0}
    decayed = settings(**plain, optimizer__weight_decay=L2)
    inside, _ = take_steps(linear, settings(**plain), batches=batch)
    outside, _ = take_steps(linear, decayed, batches=batch, l2=0.0)
    w = {k: np.array(v) for k, v in inside[0].params["head"].items()}
    x = ((IMAGES[batch[0]] - MEAN) / STD).reshape(BATCH, D)
    y = LABELS[batch[0]]
    for states, l2, decay in ((inside, L2, 0.0), (outside, 0.0, L2)):
        g = numpy_gradient(w, x, y, l2)
        there = {k: w[k] + 0.4 * g[k] / norm(g) for k in w}
        g = numpy_gradient(there, x, y, l2)
        expected = {k: w[k] - RATE * (g[k] + decay * w[k]) for k in w}
        close(states[1].params["head"], expected)


def test_hazard_12_clipping_acts_on_the_sharpness_aware_gradient_before_momentum():
    clip = {"sam__kind": "sam", "optimizer__gradient_clip": 0.05}
    linear = sam_jax.models.create("linear", num_classes=3)
    states, measured = take_steps(linear, settings(**clip))
    w, buffer = states[0].params["head"], None
    for t, indices in enumerate(BATCHES):
        x = ((IMAGES[indices] - MEAN) / STD).reshape(BATCH, D)
        g = numpy_gradient(w, x, LABELS[indices])
        there = {k: w[k] + 0.4 * g[k] / norm(g) for k in w}
        g = numpy_gradient(there, x, LABELS[indices])
        assert norm(g) > 0.05
        close(measured[t]["gradient_norm"], norm(g))
        g = {k: 0.05 * v / norm(g) for k, v in g.items()}
        buffer = g if buffer is None else {k: 0.9 * buffer[k] + g[k] for k in g}
        w = {k: w[k] - RATE * buffer[k] for k in w}
        close(states[t + 1].params["head"], w)


def test_adam_is_optax_adamw():
    config = settings(optimizer__name="adam", optimizer__weight_decay=0.1)
    states, _ = take_steps(Smooth(), config, take_gradient=step.plain_gradient)
    tx = optax.adamw(RATE, weight_decay=0.1)
    objective = step.make_objective(Smooth(), {}, losses.cross_entropy, np.array(L2))
    params = states[0].params
    opt_state = tx.init(params)
    gradient = jax.jit(jax.grad(objective.value))
    for indices in BATCHES:
        images = (IMAGES[indices] - MEAN) / STD
        batch = {"images": images, "labels": LABELS[indices]}
        grads = gradient(params, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    close(states[-1].params, params, rtol=1e-10)


def test_the_average_of_the_weights_follows_every_step():
    config = settings(ema__decay=0.7)
    states, _ = take_steps(Smooth(), config, ema=True)
    expected = states[0].params
    for now in states[1:]:
        expected = jax.tree.map(lambda a, b: 0.7 * a + 0.3 * b, expected, now.params)
    close(states[-1].ema_params, expected)


def test_hazard_06_ascent_and_descent_share_the_batch_unless_asked(tmp_path):
    parts = {}
    for kind in ("sam", "max_sum"):
        run = loop.prepare(tiny(sam__kind=kind), tmp_path / kind)
        parts[kind] = list(epochs.batches(run.config, run.setup, 0))
    assert all(len(batch) == 1 for batch in parts["sam"])
    assert all(len(batch) == 2 for batch in parts["max_sum"])
    for (descent,), (same, ascent) in zip(parts["sam"], parts["max_sum"], strict=True):
        np.testing.assert_array_equal(descent, same)
        assert len(set(ascent) & set(descent)) < len(descent)


def test_max_sum_ascends_on_its_own_batch():
    config = settings(sam__kind="max_sum", optimizer__momentum=0.0)
    linear = sam_jax.models.create("linear", num_classes=3)
    optimizer = state.make_optimizer(config.optimizer)
    now = start(linear, optimizer)
    descent, ascent = BATCHES
    take = functools.partial(
        step.train_step,
        module=linear,
        loss=losses.cross_entropy,
        take_gradient=problem.create_gradient(config),
        optimizer=optimizer,
        ema_decay=0.0,
        augment=lambda keys, images: images,
        axis_name=None,
    )
    coefficients = step.Coefficients(np.array(RATE), np.array(0.4), np.array(L2))
    new, _ = jax.jit(take)(now, EXAMPLES, coefficients, descent, ascent)
    w = {k: np.array(v) for k, v in now.params["head"].items()}
    x = ((IMAGES - MEAN) / STD).reshape(N, D)
    g = numpy_gradient(w, x[ascent], LABELS[ascent])
    there = {k: w[k] + 0.4 * g[k] / norm(g) for k in w}
    g = numpy_gradient(there, x[descent], LABELS[descent])
    close(new.params["head"], {k: w[k] - RATE * g[k] for k in w})


def test_each_example_is_augmented_by_a_key_of_its_own_and_of_the_step():
    def augment(keys, images):
        return images + jax.vmap(jax.random.normal)(keys)[:, None, None, None]

    def load(key):
        keys = example_keys(key, BATCH, axis_name=None)
        batch = EXAMPLES.batch(BATCHES[0], functools.partial(augment, keys))
        return np.array(batch["images"] - (IMAGES[BATCHES[0]] - MEAN) / STD)[:, 0, 0, 0]

    shift = load(jax.random.key(0))
    assert len(set(shift)) == BATCH
    np.testing.assert_array_equal(shift, load(jax.random.key(0)))
    assert not set(shift) & set(load(jax.random.key(1)))


@pytest.mark.parametrize(
    ("m", "devices", "expected"),
    [
        (8, 1, {}),
        (4, 2, {}),
        (1, 4, {}),
        (8, 2, {"axis_name": step.AXIS}),
        (
            4,
            4,
            {"axis_name": step.AXIS, "axis_index_groups": ((0, 1), (2, 3))},
        ),
    ],
)
def test_batch_norm_averages_over_the_devices_of_a_group(m, devices, expected):
    assert step.normalization_axes(m, 8, devices) == expected
