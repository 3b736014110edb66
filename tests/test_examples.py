"""The examples run, SAM's lines in them are few, and what they claim holds."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
SOURCES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}


def run(name, *args):
    spec = importlib.util.spec_from_file_location(f"example_{name}", SOURCES[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(*args)


def test_every_example_is_listed_and_none_is_missing():
    listed = (FOLDER / "README.md").read_text()
    assert len(SOURCES) == 8
    assert all(f"`{name}.py`" in listed for name in SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_sam_takes_about_ten_lines(name):
    lines = [x for x in SOURCES[name].read_text().splitlines() if x.endswith("# SAM")]
    assert 1 <= len(lines) <= 10


# name: steps, largest test error; of ten classes a guess errs in 90%
LEARNS = {
    "nnx_model": (60, 0.15),
    "equinox_model": (60, 0.15),
    "pure_functions": (100, 0.15),
    "private": (60, 0.25),
}


@pytest.mark.program
@pytest.mark.parametrize("name", LEARNS)
def test_it_learns(name):
    steps, bound = LEARNS[name]
    assert run(name, steps)["test_error"] < bound


@pytest.mark.program
def test_noise_and_clipping_of_the_private_steps_are_at_work():
    first = run("private", 1)
    assert 0.5 < first["clipped"] <= 1.0  # random weights: most gradients are long


@pytest.mark.program
def test_next_tokens_are_predicted_better_than_by_their_frequencies():
    """log 32 = 3.47 nats for 32 equally frequent tokens; two of three steps move on."""
    figures = run("tied_embeddings", 60)
    assert figures["first_loss"] > 2.5
    assert figures["loss"] < 2.2


@pytest.mark.program
def test_low_rank_factors_alone_tune_a_network_to_other_data():
    errors = run("lora", 80)
    assert errors["frozen"] > 0.3
    assert errors["tuned"] < errors["frozen"] / 2


def test_microbatches_share_a_perturbation_or_have_their_own():
    figures = run("accumulation")
    assert figures["shared_distance"] < 1e-12
    assert figures["own_distance"] > 1e-3
    assert figures["shared_kib"] < 0.7 * figures["whole_kib"]


@pytest.mark.program
def test_parameters_on_eight_devices_are_trained_as_on_one():
    """In a process of its own, which has eight devices."""
    code = f"import runpy, json; m = runpy.run_path({str(SOURCES['fsdp'])!r}); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(json.dumps(m['main'](5)))"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        check=True,
        cwd=FOLDER.parent,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["shards"] == 8
    assert figures["distance"] < 1e-10
