"""Runs of networks and data sets of one's own, by name and from Python."""

import functools
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.harness import sweep
from sam_jax import training
from sam_jax.analysis import networks, restore
from sam_jax.training import configuration, loop
from tests.training import own
from tests.training.problems import tiny

NAMES = {
    "model__name": "tests.training.own:Net",
    "data__name": "tests.training.own:points",
}


def config(**changes):
    options = {
        "batch_size": 8,
        "model__options": ConfigDict({"width": 5}),
        "data__options": ConfigDict({"shift": 1.0}),
        "data__validation_fraction": 0.0,
        "sam__kind": "sam",
        "devices": 1,
        **NAMES,
        **changes,
    }
    return tiny(**options)


@functools.cache
def steps(**changes):
    """The state after the steps of an epoch, without a work directory."""
    run = loop.prepare(config(**changes), "unused", claim=False)
    setup, state = run.setup, run.setup.initial_state()
    for t in range(3):
        given = jax.tree.map(lambda values, t=t: values[t], setup.coefficients)
        step = setup.ascent_step or setup.plain_step
        batch = setup.train[8 * t : 8 * t + 8]
        state, measured = step(state, setup.examples, given, batch)
    return setup, state, measured


def leaves(state):
    return jax.tree.leaves((state.params, state.batch_stats))


def test_a_run_by_name_and_from_python_is_the_same_and_can_be_measured(tmp_path):
    by_name, given = tmp_path / "name", tmp_path / "given"
    expected = training.run(config(ema__decay=0.5), by_name, silent=True)
    objects = {"module": own.Net, "dataset": own.points(shift=1.0)}
    received = training.run(config(ema__decay=0.5), given, silent=True, **objects)
    assert received == {**expected, "seconds": received["seconds"]}
    stored = json.loads((by_name / "config.json").read_text())
    assert stored["model"]["options"] == {"width": 5}
    runs = [restore.read(by_name), restore.read(given, **objects)]
    for run in runs:
        (state,) = run.states([2])
        objective = networks.evaluation_objective(run, state, 0.0)
        batch = networks.training_batch(run, 48)
        value = float(objective.value(state.params, batch))
        np.testing.assert_allclose(value, expected["train_loss_last"], rtol=1e-6)
    with pytest.raises(ValueError, match=r"of this run was given from Python"):
        restore.read(given)


def test_both_passes_of_a_step_drop_the_same_units():
    """As rho -> 0 SAM's steps are those of ERM, with dropout."""
    _, sam, _ = steps(sam__rho=1e-10)
    _, erm, _ = steps(sam__kind="erm")
    for a, b in zip(leaves(sam), leaves(erm), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_masks_are_drawn_anew_in_every_step():
    setup, state, _ = steps(sam__kind="erm")
    given = jax.tree.map(lambda values: 0 * values[0], setup.coefficients)
    losses = []
    for _ in range(2):  # the same batch at the same weights: the learning rate is 0
        state, measured = setup.plain_step(
            jax.tree.map(np.asarray, state), setup.examples, given, setup.train[:8]
        )
        losses.append(float(measured["loss"]))
    assert abs(losses[0] - losses[1]) > 1e-3


def test_groups_of_two_have_masks_of_their_own():
    """Against the steps without groups, at rho -> 0: the masks differ."""
    _, groups, _ = steps(sam__rho=1e-10, sam__m=4)
    _, whole, _ = steps(sam__rho=1e-10)
    distance = [
        np.abs(a - b).max() for a, b in zip(leaves(groups), leaves(whole), strict=True)
    ]
    assert max(distance) > 1e-4


def test_a_network_starts_as_it_says():
    setup, _, _ = steps(sam__kind="erm")
    state = setup.initial_state()
    np.testing.assert_array_equal(
        state.params["Dense_0"]["kernel"], np.full((4, 5), 0.5)
    )


def test_fresh_statistics_of_a_momentum_of_its_own():
    """The mean over batches of the mean of the network's inputs."""
    setup, state, _ = steps(sam__kind="erm")
    fresh = setup.fresh_statistics(state.params, state.batch_stats, setup.examples)
    images = setup.examples.batch(setup.train)["images"]
    expected = np.asarray(images).reshape(48, -1).mean(0)
    np.testing.assert_allclose(
        fresh["BatchNorm_0"]["mean"], expected, rtol=1e-3, atol=1e-5
    )


OWN = "tests.training.own:"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__name": "tests.nowhere:Net"}, "network 'tests.nowhere:Net' cannot be"),
        (
            {"model__name": OWN + "Nett"},
            "no attribute 'Nett'.*package.module:attribute",
        ),
        ({"model__name": OWN + "SEVEN"}, "is 7. A network of your own is a flax"),
        (
            {"model__name": OWN + "no_module"},
            "unexpected keyword.*'width'.*called with",
        ),
        (
            {"model__name": OWN + "wrong_shape", "model__options": {}},
            r"\(2, 4\).*\(2, 3\)",
        ),
        ({"model__name": OWN + "counting", "model__options": {}}, "in counts; a run"),
        (
            {"model__name": OWN + "NoTrain", "model__options": {}},
            "'train'.*called with",
        ),
        ({"sam__kind": "sum_max"}, "has BatchNorm, with groups of one"),
        ({"model__name": "mlp"}, r"model.options=\{'width': 5\} with model.name='mlp'"),
        ({"data__name": "digits"}, r"data.options=\{'shift': 1.0\} for the data set"),
        ({"data__name": OWN + "raises", "data__options": {}}, "is a dict. A data set"),
        ({"data__name": OWN + "raises"}, "unexpected keyword.*'shift'"),
        ({"data__name": OWN + "bad_labels", "data__options": {}}, "from 7 to 7 in its"),
        ({"data__name": OWN + "bad_images", "data__options": {}}, r"labels of shape"),
        ({"model__options": {"width": object()}}, "model.options=.*a dictionary of"),
    ],
)
def test_what_does_not_fit_gets_a_line_with_the_contract(changes, message):
    changes = {
        k: ConfigDict(v) if isinstance(v, dict) else v for k, v in changes.items()
    }
    with pytest.raises(ValueError, match=message) as caught:
        loop.prepare(config(**changes), "unused", claim=False)
    assert "\n" not in str(caught.value)


def test_options_are_values_of_their_key():
    checked = configuration.check(config())
    flat = configuration.flatten(checked)
    assert flat["model.options"] == {"width": 5}
    again = configuration.check(json.loads(json.dumps(configuration.plain(checked))))
    assert again == checked
    other = configuration.check(config(model__options=ConfigDict({"width": 6})))
    (difference,) = configuration.differences(checked, other)
    assert "model.options" in difference
    assert configuration.fingerprint(other) != configuration.fingerprint(checked)


def test_options_can_be_swept():
    grid = sweep.parse_grid("model.options.width=[3, 4]")
    planned = sweep.plan(config(), grid)
    widths = [run.config.model.options.width for run in planned.values()]
    assert widths == [3, 4]
