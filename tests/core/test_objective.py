import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.core.objective import Objective, batch_size

BATCH = {"x": jnp.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]), "y": jnp.arange(3.0)}
PARAMS = jnp.array([0.5, -1.0])


def predict(w, batch):
    return batch["x"] @ w


def square(outputs, batch):
    return (outputs - batch["y"]) ** 2


def test_value_is_the_mean_loss_plus_the_penalty():
    x, y, w = np.asarray(BATCH["x"]), np.asarray(BATCH["y"]), np.asarray(PARAMS)
    objective = Objective(predict, square, lambda v: 0.1 * jnp.vdot(v, v))
    expected = np.mean((x @ w - y) ** 2) + 0.1 * w @ w
    np.testing.assert_allclose(objective.value(PARAMS, BATCH), expected, rtol=1e-15)
    np.testing.assert_allclose(objective.penalty_gradient(PARAMS), 0.2 * w, rtol=1e-15)


def test_aux_is_handed_on():
    objective = Objective(lambda w, b: (predict(w, b), "kept"), square, has_aux=True)
    assert objective.forward(PARAMS, BATCH)[1] == "kept"


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda o, b: jnp.mean(square(o, b)), r"\(\)"),
        (lambda o, b: square(o, b)[:, None], r"\(3, 1\)"),
    ],
)
def test_a_loss_that_is_not_per_example_is_refused(loss, shape):
    with pytest.raises(ValueError, match=f"returned shape {shape}.*shape \\(3,\\)"):
        Objective(predict, loss).value(PARAMS, BATCH)


@pytest.mark.parametrize(
    "batch", [{"x": jnp.ones((3, 2)), "y": jnp.ones(2)}, {"x": jnp.ones(())}, {}]
)
def test_leaves_without_a_common_leading_axis_are_refused(batch):
    with pytest.raises(ValueError, match="same number of examples"):
        batch_size(batch)
