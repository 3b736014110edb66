"""The data of Fig. 1 and 9."""

import numpy as np
import pytest

from sam_jax.toys import sparse_regression


def test_a_problem_is_sparse_interpolated_and_its_seeds():
    x, y, beta = sparse_regression.sample(3)
    assert x.shape == (20, 30)
    np.testing.assert_array_equal(np.flatnonzero(beta), [0, 1, 2])
    np.testing.assert_allclose(np.linalg.norm(beta), 1)
    np.testing.assert_allclose(y, x @ beta)
    several = sparse_regression.sample([2, 3], n=20)
    np.testing.assert_array_equal(several.x[1], x)
    assert several.beta.shape == (2, 30)
    assert not np.array_equal(several.x[0], x)


def test_inputs_are_standard_normal():
    x = sparse_regression.sample(range(200)).x
    np.testing.assert_allclose(x.mean(), 0, atol=4 / np.sqrt(x.size))
    np.testing.assert_allclose(x.var(), 1, atol=4 * np.sqrt(2 / x.size))


def test_the_test_loss_is_the_mean_over_fresh_inputs():
    beta, target = np.asarray([1.0, -2.0, 0.5]), np.asarray([0.5, 0.0, 0.5])
    x = np.random.default_rng(0).standard_normal((200_000, 3))
    losses = (x @ (beta - target)) ** 2 / 4
    received = sparse_regression.test_loss(beta, target, 1 / 4)
    np.testing.assert_allclose(received, losses.mean(), rtol=0.02)


@pytest.mark.parametrize(
    ("sizes", "match"),
    [({"n": 0}, "n=0"), ({"nonzeros": 31}, r"nonzeros=31.*1\.\.30"), ({"d": 0}, "d=0")],
)
def test_impossible_sizes_are_refused(sizes, match):
    with pytest.raises(ValueError, match=match):
        sparse_regression.sample(0, **sizes)
