import functools

import jax
import numpy as np
import optax
import pytest

import sam_jax
from sam_jax import losses
from sam_jax.training import epochs, loop, problem, state, step
from sam_jax.training.examples import example_keys
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
