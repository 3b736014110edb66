import numpy as np
import pytest

from sam_jax.analysis import robustness
from sam_jax.training import loop
from sam_jax.training.config import ConfigError
from tests.training.problems import tiny


def test_auto_attack_on_the_checkpoints_of_a_linear_network(tmp_path):
    eps = 0.02
    config = tiny(
        epochs=2,
        model__dtype="float32",
        attack__kind="adversarial",
        attack__eps=eps,
        attack__eval_steps=2,
        checkpoint__keep=2,
    )
    loop.run(config, tmp_path / "run", silent=True)
    first, last = robustness.auto_attack(tmp_path / "run", count=24)
    assert (first.epoch, last.epoch) == (1, 2)
    (again,) = robustness.auto_attack(tmp_path / "run", [2], count=24)
    np.testing.assert_array_equal(again.result.robust, last.result.robust)
    for found in (first, last):
        # Of a linear network: no image resists whose margin is within reach.
        assert found.result.robust_error["square"] >= found.result.robust_error["clean"]
        assert found.result.robust.shape == (24,)


def test_a_run_without_a_radius_is_refused(tmp_path):
    loop.run(tiny(epochs=1), tmp_path / "run", silent=True)
    with pytest.raises(ConfigError, match=r"attack\.eps=0; there is no radius"):
        robustness.auto_attack(tmp_path / "run")
