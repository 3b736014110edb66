import importlib
import json
import pathlib
import re

import numpy as np
import pytest

from sam_jax import data
from sam_jax.training import configuration, loop, setup

RECIPES = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / "configs").glob("*.py")
    if path.stem not in ("__init__", "common", "finetune")
)


def recipe(name):
    return importlib.import_module(f"configs.{name}")


def variants(name):
    """The variants that the error for an unknown one lists."""
    with pytest.raises(ValueError, match="Unknown variant 'none'") as error:
        recipe(name).get_config("none")
    return re.search("has (.*)\\.", str(error.value))[1].split(", ")


ALL = [(name, variant) for name in RECIPES for variant in ["", *variants(name)]]


def test_the_recipes_are_there():
    assert RECIPES == [
        "cifar10",
        "cifar10_at",
        "cifar10_noise",
        "cifar_gce",
        "digits",
        "gpt",
        "two_class",
        "vit",
    ]


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_every_variant_is_a_config(name, variant):
    configuration.check(recipe(name).get_config(variant))


@pytest.mark.parametrize("name", RECIPES)
def test_the_docstring_names_every_variant_and_the_expected_result(name):
    text = recipe(name).__doc__
    for variant in variants(name):
        assert re.search(rf"\b{variant}\b", text), variant
    assert "Recipe" in text
    assert "Expected" in text


def test_any_run_is_fine_tuned_from_its_own_settings(tmp_path):
    config = recipe("digits").get_config("erm")
    (tmp_path / "config.json").write_text(json.dumps(configuration.plain(config)))
    received = recipe("finetune").get_config(str(tmp_path))
    changed = dict(
        line.split(": ", 1) for line in configuration.differences(config, received)
    )
    assert changed == {
        "init_from": f"'' -> '{tmp_path}'",
        "epochs": "50 -> 5",
        "schedule.name": "'piecewise_constant' -> 'constant'",
        "schedule.peak": "0.1 -> 0.001",
        "schedule.warmup_epochs": "5.0 -> 0.0",
        "checkpoint.every_epochs": "10 -> 5",
        "sam.kind": "'erm' -> 'sam'",
    }
    configuration.check(received)
    configuration.check(recipe("finetune").get_config())
    with pytest.raises(ValueError, match="is no work directory of a run"):
        recipe("finetune").get_config(str(tmp_path / "none"))


def test_variants_join_in_order():
    config = recipe("cifar_gce").get_config("ce_sam,cifar100,noise60")
    assert (config.loss.name, config.sam.kind) == ("cross_entropy", "sam")
    assert config.data.name == "cifar100"
    assert config.data.noise.fraction == 0.6
    with pytest.raises(ValueError, match="Unknown variant 'fast'; this recipe has"):
        recipe("cifar_gce").get_config("ce_sam,fast")


def test_configs_share_nothing():
    first = recipe("digits").get_config()
    first.sam.rho = 7.0
    assert recipe("digits").get_config().sam.rho != 7.0


@pytest.mark.parametrize(
    ("name", "variant", "expected"),
    [
        ("cifar10", "erm", {"epochs": 1000, "batch_size": 128, "l2": 5e-4}),
        ("cifar10", "sam", {"sam.rho": 0.1, "sam.m": 0, "model.width": 64}),
        ("cifar10", "unnormalized", {"sam.rho": 0.3, "schedule.peak": 0.1}),
        ("cifar10", "erm_to_sam", {"sam.rho": 0.2, "sam.start_epoch": 900}),
        ("cifar10", "sam_to_erm", {"sam.rho": 0.1, "sam.stop_epoch": 900}),
        ("cifar10_noise", "sam", {"sam.rho": 0.2, "data.noise.fraction": 0.6}),
        ("cifar10_noise", "unnormalized", {"sam.rho": 0.4}),
        ("cifar10_at", "sam", {"attack.eps": 8 / 255, "attack.steps": 5}),
        ("cifar10_at", "gce", {"loss.q": 0.9, "attack.eval_steps": 10, "epochs": 200}),
        ("cifar10_at", "pairing", {"pairing.weight": 1.0, "pairing.start": 0.5}),
        ("cifar10_at", "pairing_tenth,cpu", {"pairing.weight": 0.1, "epochs": 80}),
        ("cifar10_at", "at,long", {"epochs": 1000, "sam.kind": "erm"}),
        ("two_class", "sam", {"batch_size": 256, "sam.m": 64, "model.width": 16}),
        ("two_class", "erm", {"data.noise.fraction": 0.8, "sam.kind": "erm"}),
        ("cifar_gce", "", {"epochs": 200, "schedule.name": "cosine", "loss.q": 0.7}),
        ("cifar_gce", "gce_sam", {"ema.decay": 0.999, "data.noise.fraction": 0.4}),
        ("cifar_gce", "ce", {"model.name": "preact_resnet34", "sam.kind": "erm"}),
        ("digits", "sam", {"epochs": 50, "batch_size": 64, "model.norm": "group"}),
        ("vit", "sam,imagenet", {"sam.rho": 0.2, "sam.m": 64, "batch_size": 4096}),
        ("vit", "imagenet", {"schedule.peak": 3e-3, "optimizer.weight_decay": 0.3}),
        ("gpt", "late", {"sam.start_epoch": 9, "epochs": 10, "sam.kind": "sam"}),
        ("gpt", "periodic,muon", {"sam.every": 5, "optimizer.name": "muon"}),
        ("gpt", "sum_max", {"sam.m": 1, "optimizer.name": "adamw", "l2": 0.0}),
    ],
)
def test_recipes_have_the_papers_settings(name, variant, expected):
    received = configuration.flatten(recipe(name).get_config(variant))
    assert {key: received[key] for key in expected} == expected


def test_imagenet_warms_up_for_ten_thousand_steps():
    config = configuration.check(recipe("vit").get_config("imagenet"))
    train, _ = data.split_validation(0, 1_281_167, config.data.validation_fraction)
    steps = len(train) // config.batch_size
    rates = setup.tabulate_coefficients(config, steps).learning_rate
    assert len(rates) == 300 * steps
    assert rates.argmax() == 10_000
    np.testing.assert_allclose(rates[[0, 5000, 10_000]], [0, 1.5e-3, 3e-3], rtol=1e-6)


# The digits' own is the main job's, run by tests/experiments.
@pytest.mark.program
@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("cifar10", "sam,smoke"),
        ("cifar10_noise", "sam,smoke"),
        ("cifar10_at", "sam,pairing,smoke"),
        ("two_class", "sam_derivative,smoke"),
        ("cifar_gce", "gce_sam,smoke"),
        ("vit", "sam,smoke"),
        ("gpt", "sum_max,smoke"),
    ],
)
def test_smoke_variants_train(tmp_path, name, names):
    summary = loop.run(recipe(name).get_config(names), tmp_path / "run", silent=True)
    assert summary["epochs"] <= 3
    assert 0 <= summary["test_error_best"] <= 1
    assert ("ema_test_error_best" in summary) == (name == "cifar_gce")
