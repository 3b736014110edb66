"""Rank correlations against counts of pairs."""

import numpy as np
import pytest

from experiments.harness import statistics

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(9, 3))
Y = X + RANDOM.normal(size=(9, 3))


def test_kendalls_tau_counts_pairs_in_order():
    x, y = X.ravel(), Y.ravel()
    signs = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    tau, (low, high) = statistics.of_rank_correlation(X, Y)
    assert tau == pytest.approx(signs.sum() / (27 * 26))
    assert -1 < low < tau < high < 1


def test_the_seeds_of_a_row_are_one_piece_of_evidence():
    tau, interval = statistics.of_rank_correlation(X[:, :1], Y[:, :1])
    often = np.repeat(X[:, :1], 7, 1), np.repeat(Y[:, :1], 7, 1)
    found = statistics.of_rank_correlation(*often)
    assert found[0] == pytest.approx(tau)
    np.testing.assert_allclose(found[1], interval)


def test_limits():
    order = np.arange(6.0).reshape(3, 2)
    assert statistics.of_rank_correlation(order, order**3)[0] == pytest.approx(1)
    assert statistics.of_rank_correlation(order, -order)[0] == pytest.approx(-1)
    assert statistics.of_rank_correlation(order, 0 * order) == (0.0, (0.0, 0.0))
    assert statistics.of_rank_correlation(order[:1], order[:1])[1] == (-1.0, 1.0)
    failed = np.where(np.arange(9)[:, None] == 2, np.nan, X)
    rest = np.delete(X, 2, 0), np.delete(Y, 2, 0)
    expected = statistics.of_rank_correlation(*rest)[0]
    assert statistics.of_rank_correlation(failed, Y)[0] == pytest.approx(expected)
