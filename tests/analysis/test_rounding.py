"""Weights of a few bits: channel by channel, the nearest values."""

import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.analysis import rounding


def test_rounding_is_to_the_nearest_of_a_channels_values():
    random = np.random.default_rng(0)
    kernel, table = random.normal(size=(2, 5, 3)), random.normal(size=(4, 6))
    params = {
        "a": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(kernel[0, 0])},
        "b": {"embedding": jnp.asarray(table)},
        "positions": jnp.asarray(table),
    }
    received = rounding.round_weights(params, 3)
    np.testing.assert_array_equal(received["a"]["bias"], kernel[0, 0])
    np.testing.assert_array_equal(received["positions"], table)
    channels = [
        *zip(
            kernel.transpose(0, 2, 1).reshape(-1, 5),
            np.asarray(received["a"]["kernel"]).transpose(0, 2, 1).reshape(-1, 5),
            strict=True,
        ),
        *zip(table, np.asarray(received["b"]["embedding"]), strict=True),
    ]
    assert len(channels) == 6 + 4
    for weights, rounded in channels:
        allowed = np.abs(weights).max() * np.array([-3, -2, -1, 0, 1, 2, 3]) / 3
        nearest = allowed[np.abs(weights[:, None] - allowed).argmin(1)]
        np.testing.assert_allclose(rounded, nearest, atol=1e-12)


def test_many_bits_change_nothing_and_zeros_stay():
    params = {"kernel": jnp.asarray([[0.0, 1.0], [0.0, -0.3]])}
    received = rounding.round_weights(params, 30)["kernel"]
    np.testing.assert_allclose(received, params["kernel"], atol=1e-8)
    with pytest.raises(ValueError, match="bits=1; give an integer >= 2"):
        rounding.round_weights(params, 1)
