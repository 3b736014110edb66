import time
import warnings

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from sam_jax import attacks
from sam_jax.attacks import auto, masking, survivors
from tests.attacks.networks import (
    images_and_labels,
    lengths,
    network,
    random_linear,
    random_mlp,
)

KEY = jax.random.key(0)


def run(predict, x, y, **options):
    options = {"eps": 0.1, "key": KEY, "verbose": False} | options
    return attacks.auto_attack(predict, x, y, **options)


@pytest.fixture
def quick(monkeypatch):
    """The standard attacks with few steps."""
    for name, attack in auto.ATTACKS.items():
        steps = {"queries": 20} if name == "square" else {"steps": 8}
        monkeypatch.setitem(auto.ATTACKS, name, jax.tree_util.Partial(attack, **steps))
    monkeypatch.setattr(masking, "STRONGER_SHARE", 1.0)


@hypothesis.given(
    seed=st.integers(0, 2**16),
    classes=st.sampled_from([2, 4]),
    eps=st.sampled_from([0.005, 0.05]),
    norm=st.sampled_from(["linf", "l2"]),
)
@hypothesis.settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_flags_points_and_errors_of_random_networks(quick, seed, classes, eps, norm):
    predict, x, y = random_mlp(seed, classes)
    y = y.at[0].set((y[0] + 1) % classes)  # one is misclassified as it is
    result = run(predict, x, y, eps=eps, norm=norm)
    wrong = np.asarray(predict(result.adversarial).argmax(1) != y)
    np.testing.assert_array_equal(result.robust, ~wrong)
    assert not result.robust[0]
    delta = np.asarray(result.adversarial - x)
    assert lengths(delta, norm).max() <= eps + 1e-6
    assert not np.any(delta[result.robust | (np.arange(8) == 0)])
    assert np.all((result.adversarial >= 0) & (result.adversarial <= 1))
    names = ["clean", "apgd_ce", "apgd_t", "fab_t", "square"]
    assert list(result.robust_error) == names
    errors = list(result.robust_error.values())
    assert errors == sorted(errors)
    assert errors[0] == 1 / 8
    assert errors[-1] == 1 - result.robust.mean()
    assert list(result.seconds) == names[1:]


def test_on_a_linear_network_it_finds_exactly_those_within_reach(quick):
    predict, w, _, x, y = random_linear(0)
    gap = -np.asarray(attacks.margin(predict(x), y))
    reach = gap / np.abs(w[:, 1] - w[:, 0]).sum()
    eps = float(np.median(reach))
    decided = np.abs(reach / eps - 1) > 0.01
    result = run(predict, x, y, eps=eps)
    expected = reach > eps
    assert 0 < expected.sum() < 16
    np.testing.assert_array_equal(result.robust[decided], expected[decided])


def test_a_shrinking_number_of_images_compiles_nothing(quick, monkeypatch, caplog):
    monkeypatch.setattr(survivors, "LEAST", 4)
    x, y = images_and_labels(24)
    sizes = survivors.sizes(8)
    assert sizes == [4, 8]
    for size in sizes:  # each once, with one radius and one network
        run(network("plain"), x[:size], y[:size], eps=1e-6, batch_size=8)
    run(network("plain"), x, y, eps=1e-6, batch_size=8)
    left = []
    caplog.clear()
    with jax.log_compiles():
        for net, eps in (("plain", 0.03), ("plain", 0.1), ("adv", 0.2)):
            left.append(run(network(net), x, y, eps=eps, batch_size=8).robust_error)
    assert len({tuple(errors.values()) for errors in left}) == 3
    compiled = [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]
    assert not compiled


def test_a_remainder_is_padded_to_a_few_sizes():
    assert survivors.sizes(256) == [32, 64, 128, 256]
    assert survivors.sizes(100) == [50, 100]
    assert survivors.sizes(20) == [20]
    batches = list(survivors.batches(np.arange(300, 600), 256))
    assert [(len(rows), real) for rows, real in batches] == [(256, 256), (64, 44)]
    np.testing.assert_array_equal(
        np.concatenate([rows[:real] for rows, real in batches]), np.arange(300, 600)
    )
    assert set(batches[1][0]) == set(range(556, 600))


def test_the_union_is_never_weaker_than_the_first_attack(quick):
    x, y = images_and_labels(64)
    alone = run(network("adv"), x, y, eps=0.15, attacks=["apgd_ce"])
    names = ["apgd_ce", "fab_t"]
    union = run(network("adv"), x, y, eps=0.15, attacks=names)
    assert np.all(union.robust <= alone.robust)
    assert alone.robust_error["apgd_ce"] == union.robust_error["apgd_ce"]
    assert list(alone.robust_error) == ["clean", "apgd_ce"]


def test_versions_and_few_classes():
    assert list(auto.select("rand", None, 10)) == ["apgd_ce", "apgd_dlr"]
    assert list(auto.select("rand", None, 2)) == ["apgd_ce"]
    predict, _, _, x, y = random_linear(0)
    with pytest.raises(ValueError, match="needs 3"):
        run(predict, x, y, attacks=["apgd_dlr"])


def noisy(weights, x, *, key):
    logits = x.reshape(len(x), -1) @ weights
    return logits + 0.01 * jax.random.normal(key, logits.shape)


def test_a_network_random_by_design(monkeypatch):
    monkeypatch.setitem(
        auto.RANDOM, "apgd_ce", Partial(auto.RANDOM["apgd_ce"], steps=5, eot=3)
    )
    monkeypatch.setitem(
        auto.RANDOM, "apgd_dlr", Partial(auto.RANDOM["apgd_dlr"], steps=5, eot=3)
    )
    predict = Partial(noisy, jax.random.normal(KEY, (36, 4)))
    x = jax.random.uniform(KEY, (8, 6, 6, 1))
    y = jnp.argmax(predict(x, key=KEY), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(predict, x, y, eps=0.3, version="rand")
    assert result.robust_error["apgd_dlr"] > 0.5
    with pytest.warns(attacks.GradientMaskingWarning, match="two calls"):
        run(predict, x, y, eps=1e-6, attacks=["apgd_ce"])


def test_progress_is_shown_and_can_be_silenced(quick, capsys):
    predict, x, y = random_mlp(0, 3)
    run(predict, x, y)
    assert capsys.readouterr().err == ""
    run(predict, x, y, verbose=True)
    shown = capsys.readouterr().err
    for name in ("apgd_ce", "apgd_t", "fab_t", "square", "robust error"):
        assert name in shown


class TestMasking:
    """Signs of masked gradients."""

    def signs(self, predict, x, y, **options):
        options = {"eps": 0.02, "attacks": ["apgd_ce"]} | options
        with pytest.warns(attacks.GradientMaskingWarning):
            return run(predict, x, y, **options).signs

    def test_an_honest_network_shows_none(self, quick):
        predict, x, y = random_mlp(0, 3)
        assert run(predict, x, y, attacks=["apgd_ce"]).signs == ()

    def test_quantised_inputs_have_no_gradient_and_square_is_stronger(
        self, monkeypatch
    ):
        blind = Partial(auto.ATTACKS["apgd_ce"], steps=3, start="zero")
        monkeypatch.setitem(auto.ATTACKS, "apgd_ce", blind)
        seeing = Partial(auto.ATTACKS["square"], queries=50)
        monkeypatch.setitem(auto.ATTACKS, "square", seeing)
        predict, x, _ = random_mlp(0, 3)

        def quantised(x):
            return predict(jnp.round(x * 20) / 20)

        y = jnp.argmax(quantised(x), 1)
        options = {"eps": 0.1, "attacks": ["apgd_ce", "square"]}
        zero, stronger = self.signs(quantised, x, y, **options)
        assert "exactly 0 for 100%" in zero
        assert "square, which sees no gradients, misled" in stronger

    def test_probabilities(self):
        predict, x, y = random_mlp(0, 3)
        (sign,) = self.signs(lambda x: jax.nn.softmax(predict(x)), x, y)
        assert "probabilities" in sign

    def test_a_state(self):
        predict, x, y = random_mlp(0, 3)
        calls = []

        def stateful(x):
            calls.append(0)
            return predict(x) * (1 + len(calls))

        (sign,) = self.signs(stateful, x, y)
        assert "two calls of predict on the same images differ" in sign


def test_seconds_are_those_of_each_attack(quick):
    predict, x, y = random_mlp(0, 3)
    start = time.perf_counter()
    result = run(predict, x, y)
    assert 0 < sum(result.seconds.values()) <= time.perf_counter() - start
