import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import losses, sharpness
from sam_jax.core.objective import Objective

OBJECTIVE = Objective(
    predict=lambda p, batch: jnp.tanh(batch["x"] @ p["u"]) @ p["v"],
    loss=lambda z, batch: losses.cross_entropy(z, batch["labels"]),
)


def problem():
    random = np.random.default_rng(0)
    params = {"u": random.normal(size=(3, 4)), "v": random.normal(size=(4, 5))}
    params = jax.tree.map(jnp.asarray, params)
    true = jnp.asarray(random.integers(5, size=16))
    given = jnp.where(jnp.arange(16) % 3 == 0, (true + 1) % 5, true)
    return (
        params,
        {"x": jnp.asarray(random.normal(size=(16, 3))), "labels": given},
        true,
    )


def test_cosines_are_those_of_gradients_taken_one_by_one():
    params, batch, true = problem()
    rho = 0.3

    def gradient(w, labels, examples):
        part = {"x": batch["x"][examples], "labels": labels[examples]}
        tree = jax.grad(lambda v: OBJECTIVE.value(v, part))(w)
        return jax.flatten_util.ravel_pytree(tree)[0]

    def cosine(a, b):
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    every = np.arange(16)
    wrong = every[np.asarray(batch["labels"] != true)]
    g = gradient(params, batch["labels"], every)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    ascended = unravel(flat + rho * g / np.linalg.norm(g))
    points = [g, gradient(ascended, batch["labels"], every)]
    received = sharpness.alignment(OBJECTIVE, params, batch, true, rho)
    for name, reference in (
        ("true", gradient(params, true, every)),
        ("noisy", gradient(params, batch["labels"], wrong)),
    ):
        expected = [cosine(p, reference) for p in points]
        np.testing.assert_allclose(getattr(received, name), expected, rtol=1e-10)


def test_without_noise_all_is_true_and_nothing_is_noisy():
    params, batch, _ = problem()
    received = sharpness.alignment(OBJECTIVE, params, batch, batch["labels"], 0.1)
    np.testing.assert_allclose(received.true[0], 1, rtol=1e-12)
    np.testing.assert_array_equal(received.noisy, 0)
