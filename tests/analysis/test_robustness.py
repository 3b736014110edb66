import numpy as np
import pytest
from jax.tree_util import Partial

from sam_jax import data
from sam_jax.analysis import restore, robustness
from sam_jax.attacks import auto
from sam_jax.training import loop
from sam_jax.training.configuration import ConfigError
from tests.training.problems import tiny


def within_reach(state, eps, count):
    """The images that a linear network loses to a perturbation of |delta|_inf <= eps,
    in closed form, and for which rounding does not decide.

    The margin z_y - z_j falls by at most sum_i |g_i| a_i, with g its slope and a_i how
    far pixel i can go against it: eps, or to the end of [0, 1].
    """
    digits = data.load("digits")
    x = digits.test_images[:count].reshape(count, -1) * np.float64(digits.scale)
    y = digits.test_labels[:count]
    head = {name: np.array(w, np.float64) for name, w in state.params["head"].items()}
    slope = head["kernel"] / (digits.scale * digits.std)
    logits = (x / digits.scale - digits.mean) / digits.std @ head["kernel"]
    logits += head["bias"]
    margin = logits[np.arange(count), y][:, None] - logits
    g = slope.T[y][:, None] - slope.T
    room = np.where(g > 0, np.minimum(eps, x)[:, None], np.minimum(eps, 1 - x)[:, None])
    fall = (np.abs(g) * room).sum(-1)
    others = np.arange(10) != y[:, None]
    rest = np.where(others, margin - fall, np.inf).min(1)
    return rest <= 0, np.abs(rest) > 0.01 * np.where(others, fall, np.inf).min(1)


def test_auto_attack_finds_of_a_linear_network_exactly_the_images_within_reach(
    tmp_path, monkeypatch
):
    # Square is no match for a linear network: its 5000 queries find nothing new.
    square = Partial(auto.ATTACKS["square"], queries=50)
    monkeypatch.setitem(auto.ATTACKS, "square", square)
    eps, count = 0.1, 24
    config = tiny(
        epochs=2,
        model__dtype="float32",
        attack__kind="adversarial",
        attack__eps=eps,
        attack__eval_steps=2,
        checkpoint__keep=2,
    )
    loop.run(config, tmp_path / "run", silent=True)
    run = restore.read(tmp_path / "run")
    found = robustness.auto_attack(tmp_path / "run", count=count)
    assert [audit.epoch for audit in found] == [1, 2]
    for audit, state in zip(found, run.states([1, 2]), strict=True):
        lost, decided = within_reach(state, eps, count)
        assert 2 < lost.sum() < count - 2
        assert decided.sum() > count - 4
        np.testing.assert_array_equal(audit.result.robust[decided], ~lost[decided])
    (again,) = robustness.auto_attack(tmp_path / "run", [2], count=count)
    np.testing.assert_array_equal(again.result.robust, found[1].result.robust)


def test_a_run_without_a_radius_is_refused_unless_it_is_given_one(
    tmp_path, monkeypatch
):
    loop.run(tiny(epochs=1), tmp_path / "run", silent=True)
    with pytest.raises(
        ConfigError, match=r"attack\.eps=0; .* Give one of your own: eps="
    ):
        robustness.auto_attack(tmp_path / "run")
    given = {}
    monkeypatch.setattr(
        robustness.attacks, "auto_attack", lambda *_, **options: given.update(options)
    )
    (audit,) = robustness.auto_attack(tmp_path / "run", eps=0.2, norm="l2", count=3)
    assert audit.epoch == 1
    assert (given["eps"], given["norm"]) == (0.2, "l2")
