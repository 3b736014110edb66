"""Variants with a state: saved, resumed, in fleets, and still in plain steps."""

import signal

import jax
import numpy as np
import pytest

from sam_jax.training import fleet, loop, step
from tests.training.problems import RUN, tiny
from tests.training.steps import BATCHES, Smooth, close, settings, take_steps
from tests.training.test_interruption import run_signalled
from tests.training.test_loop import final_state, run, same_run


def test_a_stateful_run_that_is_interrupted_goes_on_bit_for_bit(tmp_path, monkeypatch):
    changes = {"sam__kind": "friendly_sam", "sam__every": 3, "epochs": 2}
    run(tmp_path / "whole", **{**RUN, **changes})
    saved = final_state(tmp_path / "whole").state
    (count,) = (
        name for name in saved if name.startswith("variant.") and "count" in name
    )
    assert saved[count] == 7  # of twenty steps every third ascends
    run_signalled(tmp_path / "run", monkeypatch, signal.SIGTERM, after=13, **changes)
    run(tmp_path / "run", **{**RUN, **changes})
    same_run(tmp_path / "run", tmp_path / "whole")


def test_a_fleet_of_stateful_runs_is_its_runs_one_by_one(tmp_path):
    def prepare(folder):
        return [
            loop.prepare(tiny(sam__kind="vasso", epochs=1, **some), folder / str(i))
            for i, some in enumerate([{"sam__rho": 0.3}, {"seed": 1}])
        ]

    fleet.train(prepare(tmp_path / "fleet"))
    for i, alone in enumerate(prepare(tmp_path / "alone")):
        loop.train(alone, silent=True)
        received = final_state(tmp_path / "fleet" / str(i)).state
        expected = final_state(tmp_path / "alone" / str(i)).state
        assert any(name.startswith("variant.") for name in expected)
        for name, array in expected.items():
            np.testing.assert_allclose(received[name], array, rtol=1e-9, atol=1e-12)


def test_a_plain_step_leaves_the_state_as_it_is():
    config = settings(sam__kind="vasso")
    states, _ = take_steps(Smooth(), config)
    assert int(states[-1].variant.inner_state.count) == len(BATCHES)
    plain, _ = take_steps(Smooth(), config, take_gradient=step.plain_gradient)
    close(plain[-1].variant, plain[0].variant)
    assert any(np.any(x != 0) for x in jax.tree.leaves(states[-1].variant))


@pytest.mark.parametrize("kind", ["vasso", "friendly_sam"])
def test_groups_with_a_state_of_the_batch_are_refused(kind):
    with pytest.raises(ValueError, match=rf"sam\.m=4 with sam\.kind='{kind}'.*kinds"):
        settings(sam__kind=kind, sam__m=4, batch_size=12)
