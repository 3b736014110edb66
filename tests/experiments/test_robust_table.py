"""Tests of `experiments/robust_table.py`: what AutoAttack needs of its runs is kept."""

import pytest

from experiments import robust_table


@pytest.mark.parametrize("scale", robust_table.SCALES)
def test_every_scale_keeps_the_weights_of_the_best_epoch(scale: str) -> None:
    for key, planned in robust_table.runs(robust_table.SCALES[scale]).items():
        assert planned.config.checkpoint.best, key
