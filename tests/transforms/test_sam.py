"""SAM against the trajectories of its PyTorch implementations and of optax."""

import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import sam_jax
from sam_jax import Objective

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
SGD = optax.sgd(0.1, momentum=0.9)


def cross_entropy(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])


def generalized_cross_entropy(logits, batch, q=0.7):
    labels = batch["y"][:, None]
    p = jnp.take_along_axis(jax.nn.softmax(logits), labels, 1)[:, 0]
    return (1 - p**q) / q


def mlp(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["W1"] + params["b1"])
    return hidden @ params["W2"] + params["b2"]


def half_square(params):
    return 0.5 * sum(jnp.vdot(w, w) for w in jax.tree.leaves(params))


def l2(strength):
    return lambda params: strength * half_square(params)


def load(name):
    with np.load(REFERENCE / f"{name}.npz") as file:
        return dict(file)


def leaves_under(arrays, prefix, skip=()):
    names = [key[len(prefix) :] for key in arrays if key.startswith(prefix)]
    return {n: jnp.asarray(arrays[prefix + n]) for n in names if n not in skip}


def trajectory(tx, objective, params, batches, **extra):
    """Parameters after every step, stacked on a leading axis."""

    @jax.jit
    def step(params, state, batch):
        grads = jax.grad(objective.value)(params, batch)
        updates, state = tx.update(
            grads, state, params, objective=objective, batch=batch, **extra
        )
        return optax.apply_updates(params, updates), state

    state, history = tx.init(params), []
    for i in range(len(jax.tree.leaves(batches)[0])):
        params, state = step(params, state, jax.tree.map(lambda b, i=i: b[i], batches))
        history.append(params)
    return jax.tree.map(lambda *w: np.stack(w), *history)


DECAYED = optax.chain(optax.add_decayed_weights(5e-4), SGD)
MLP_VARIANTS = {
    "davda_sam": (sam_jax.sam(0.05), DECAYED, 0.0),
    "davda_asam": (sam_jax.asam(0.5, eta=0.0), DECAYED, 0.0),
    "us_norm": (sam_jax.sam(0.1), SGD, 0.0),
    "us_unnorm": (sam_jax.sam(0.1, normalize=False, ascent_step_size=0.1), SGD, 0.0),
    "us_unnorm_noclip": (sam_jax.sam(0.1, normalize=False), SGD, 0.0),
    "us_l2": (sam_jax.sam(0.1), SGD, 5e-4),
    "us_m4": (sam_jax.sum_max(0.1, m=4), SGD, 5e-4),
    "us_m1": (sam_jax.sum_max(0.1), SGD, 5e-4),
    # The peer divides a group's loss by the number of groups, within the ascent too.
    "us_m4_unnorm": (
        sam_jax.sum_max(0.1, m=4, normalize=False, ascent_step_size=0.1 / 3),
        SGD,
        5e-4,
    ),
    "us_m1_unnorm": (
        sam_jax.sum_max(0.1, normalize=False, ascent_step_size=0.1 / 12),
        SGD,
        5e-4,
    ),
    "us_multi3": (sam_jax.sam(0.1, ascent_steps=3), SGD, 5e-4),
    "us_multi3_smallstep": (
        sam_jax.sam(0.1, ascent_steps=3, ascent_step_size=0.0335),
        SGD,
        5e-4,
    ),
    "us_gce": (sam_jax.sam(0.1), SGD, 5e-4),
}


@pytest.mark.parametrize("variant", MLP_VARIANTS)
def test_trajectories_of_the_pytorch_implementations(variant):
    arrays = load("sam_mlp")
    transform, base, strength = MLP_VARIANTS[variant]
    loss = generalized_cross_entropy if variant == "us_gce" else cross_entropy
    received = trajectory(
        optax.chain(transform, base),
        Objective(mlp, loss, l2(strength)),
        leaves_under(arrays, "init/"),
        {"x": arrays["x"], "y": arrays["y"]},
    )
    expected = leaves_under(arrays, f"{variant}/weights/")
    assert expected.keys() == received.keys()
    for name, weights in expected.items():
        np.testing.assert_allclose(received[name], weights, rtol=0, atol=1e-10)


def test_every_reference_variant_is_compared():
    variants = {key.split("/")[0] for key in load("sam_mlp") if "/weights/" in key}
    assert variants == set(MLP_VARIANTS)


def batch_norm_net(statistics=None):
    """3x3 convolution, BatchNorm, relu, spatial mean, dense; `statistics` if frozen."""

    def predict(params, batch):
        h = jax.lax.conv_general_dilated(
            batch["x"],
            params["conv_weight"],
            (1, 1),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        mean, var = h.mean((0, 1, 2)), h.var((0, 1, 2))
        used = (mean, var) if statistics is None else statistics
        h = (h - used[0]) / jnp.sqrt(used[1] + 1e-5)
        h = jax.nn.relu(h * params["bn_weight"] + params["bn_bias"]).mean((1, 2))
        return h @ params["fc_weight"] + params["fc_bias"], (mean, var)

    return predict


BN_VARIANTS = {
    "bn_train": sam_jax.sam(0.1),
    "bn_train_m4": sam_jax.sum_max(0.1, m=4),
    "bn_train_multi3": sam_jax.sam(0.1, ascent_steps=3),
    "bn_frozen": sam_jax.sam(0.1),
}
STATISTICS = ("bn_running_mean", "bn_running_var")


@pytest.mark.parametrize("variant", BN_VARIANTS)
def test_trajectories_through_batch_norm(variant):
    arrays = load("sam_batchnorm")
    frozen = [arrays[f"init/{name}"] for name in STATISTICS]
    net = batch_norm_net(frozen if variant == "bn_frozen" else None)
    received = trajectory(
        optax.chain(BN_VARIANTS[variant], SGD),
        Objective(net, cross_entropy, l2(5e-4), has_aux=True),
        leaves_under(arrays, "init/", skip=STATISTICS),
        {"x": arrays["x"], "y": arrays["y"]},
    )
    expected = leaves_under(arrays, f"{variant}/weights/")
    assert expected.keys() == received.keys()
    for name, weights in expected.items():
        np.testing.assert_allclose(received[name], weights, rtol=0, atol=1e-10)


def test_every_batch_norm_variant_is_compared():
    variants = {k.split("/")[0] for k in load("sam_batchnorm") if "/weights/" in k}
    assert variants == set(BN_VARIANTS)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("normalize", [True, False])
def test_same_trajectory_as_optax_contrib(steps, normalize):
    """optax's opaque mode climbs along sgd(-rho); for normalised steps alike."""
    arrays = load("sam_mlp")
    params = leaves_under(arrays, "init/")
    objective = Objective(mlp, cross_entropy)
    batches = {"x": arrays["x"], "y": arrays["y"]}
    climb = optax.sgd(0.05)
    if normalize:
        climb = optax.chain(optax.contrib.normalize(), climb)
    theirs = optax.contrib.sam(
        SGD, climb, sync_period=steps + 1, opaque_mode=True, reset_state=True
    )
    rho = 0.05 if steps == 1 else 10.0  # theirs never projects on a ball
    size = None if steps == 1 else 0.05
    ours = optax.chain(
        sam_jax.sam(
            rho, normalize=normalize, ascent_steps=steps, ascent_step_size=size
        ),
        SGD,
    )
    received = trajectory(ours, objective, params, batches)

    state, history = theirs.init(params), []
    for i in range(20):
        batch = jax.tree.map(lambda b, i=i: b[i], batches)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            updates, state = theirs.update(
                jax.grad(objective.value)(params, batch),
                state,
                params,
                grad_fn=lambda w, _, b=batch: jax.grad(objective.value)(w, b),
            )
        params = optax.apply_updates(params, updates)
        history.append(params)
    expected = jax.tree.map(lambda *w: np.stack(w), *history)
    for name in params:
        np.testing.assert_allclose(received[name], expected[name], rtol=0, atol=1e-12)


def one_step(tx, params, grad_fn, batch=None, **extra):
    batch = jnp.zeros((1,)) if batch is None else batch
    state = tx.init(params)
    grads = grad_fn(params, batch)
    updates, _ = tx.update(grads, state, params, grad_fn=grad_fn, batch=batch, **extra)
    return optax.apply_updates(params, updates)


@pytest.mark.parametrize("rho", [0.0, 0.05, 1.0])
def test_one_step_on_a_quadratic_is_the_closed_form(rho):
    w, a = np.array([2.0, -1.0]), np.diag([1.0, 4.0])
    g = a @ w
    expected = w - 0.1 * a @ (w + rho * g / np.linalg.norm(g))
    tx = optax.chain(sam_jax.sam(rho), optax.sgd(0.1))
    received = one_step(tx, jnp.asarray(w), lambda v, _: a @ v)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_max_sum_ascends_on_the_other_batch():
    """Quadratics (w - c)^2 / 2 an example: gradients are w minus the mean centre."""
    w = jnp.array([1.0, 2.0])
    centres = np.array([[0.5, 0.0], [0.0, -1.0]])
    others = np.array([[3.0, 3.0], [5.0, 1.0], [4.0, 8.0]])
    ascent = w - others.mean(0)
    point = w + 0.3 * ascent / np.linalg.norm(ascent)
    received = one_step(
        optax.chain(sam_jax.max_sum(0.3), optax.sgd(0.1)),
        w,
        lambda v, batch: v - batch.mean(0),
        batch=jnp.asarray(centres),
        ascent_batch=jnp.asarray(others),
    )
    np.testing.assert_allclose(
        received, w - 0.1 * (point - centres.mean(0)), rtol=1e-12
    )


def test_max_sum_without_an_ascent_batch_says_so():
    with pytest.raises(ValueError, match="max_sum received no ascent_batch"):
        one_step(sam_jax.max_sum(0.3), jnp.ones(2), lambda v, _: v)
