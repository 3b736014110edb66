import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import attacks
from sam_jax.attacks import model, objectives
from tests.attacks.networks import images_and_labels, network, reference


@pytest.mark.parametrize("net", ["adv", "plain"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr_targeted"])
def test_losses_and_input_gradients_are_those_of_the_original(net, loss):
    data = reference()
    x, y = images_and_labels()
    labels = [y]
    if loss == "dlr_targeted":
        labels.append(jnp.asarray(data[f"{net}/dlr_targeted_target"]))
    name = {"ce": "cross_entropy"}.get(loss, loss)
    values, gradient, logits = model.loss_gradient(
        network(net), objectives.OBJECTIVES[name], x, jax.random.key(0), *labels
    )
    np.testing.assert_allclose(logits, data[f"{net}/logits"], atol=1e-5)
    np.testing.assert_allclose(values, data[f"{net}/loss_{loss}"], atol=1e-5)
    expected = data[f"{net}/grad_{loss}"]
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_dlr_does_not_see_shift_and_scale():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(20, 6)))
    y, t = jnp.arange(20) % 6, (jnp.arange(20) + 1) % 6
    for loss, labels in ((attacks.dlr, (y,)), (attacks.dlr_targeted, (y, t))):
        expected = loss(logits, *labels)
        received = loss(7 * logits + 3, *labels)
        np.testing.assert_allclose(received, expected, rtol=1e-9)


def test_targeted_dlr_with_few_classes():
    y, t = jnp.array([0]), jnp.array([1])
    two = attacks.dlr_targeted(jnp.array([[3.0, 1.0]]), y, t)
    np.testing.assert_allclose(two, -2)
    three = attacks.dlr_targeted(jnp.array([[3.0, 1.0, 0.0]]), y, t)
    np.testing.assert_allclose(three, -2 / 3)
    four = attacks.dlr_targeted(jnp.array([[3.0, 1.0, 0.0, -1.0]]), y, t)
    np.testing.assert_allclose(four, -2 / (3 + 0.5))


def test_dlr_of_two_classes_is_refused():
    with pytest.raises(ValueError, match="needs 3"):
        attacks.dlr(jnp.zeros((2, 2)), jnp.zeros(2, int))


def test_the_margin_is_positive_exactly_where_the_label_is_not_predicted():
    logits = np.random.default_rng(0).normal(size=(50, 4))
    y = np.arange(50) % 4
    wrong = logits.argmax(1) != y
    np.testing.assert_array_equal(attacks.margin(jnp.asarray(logits), y) > 0, wrong)
