import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from sam_jax.analysis import compiled, scaling
from tests.analysis import scaling_runs

ROOT = pathlib.Path(__file__).parents[2]
# The network of scaling_runs. Its parameters have 8 bytes there.
LAYERS = (
    scaling.Layer(1, scaling_runs.PIXELS, scaling_runs.HIDDEN),
    scaling.Layer(1, scaling_runs.HIDDEN, scaling_runs.CLASSES),
)
BIASES = scaling_runs.HIDDEN + scaling_runs.CLASSES
SMALL = scaling.Network("small", LAYERS, BIASES, 0, 0.0, 1, scaling_runs.BATCH)
WIDER = 8 / scaling.BYTES
WEIGHTS = 8 * SMALL.parameters
SCALARS = 400  # bytes of norms, losses and errors in a step's collectives, at most


@pytest.fixture(scope="module")
def received(tmp_path_factory):
    out = tmp_path_factory.mktemp("scaling") / "out.npz"
    flag = " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flag}
    command = [sys.executable, "-m", "tests.analysis.scaling_runs", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as file:
        fields = ["reduced", "gathered", "others", "flops", "held", "temporary"]
        return {k: dict(zip(fields, v, strict=True)) for k, v in file.items()}


@pytest.mark.program
@pytest.mark.parametrize("shape", scaling_runs.ON_DATA, ids=str)
@pytest.mark.parametrize(
    ("method", "gradients"),
    [("ERM", 1), ("SAM", 2), ("m-SAM", 1), ("implicit m = 1", 1)],
)
def test_the_all_reduces_of_a_compiled_step(received, method, gradients, shape):
    found = received[f"{method} on {shape}"]
    assert 0 <= found["reduced"] - gradients * WEIGHTS < SCALARS
    assert found["gathered"] == found["others"] == 0
    said = scaling.traffic(SMALL.parameters, method, shape[0], 1)
    assert WIDER * sum(said.reduced) == gradients * WEIGHTS
    assert not sum(said.gathered + said.scattered)


@pytest.mark.program
def test_one_device_exchanges_nothing(received):
    found = received["SAM on (1, 1, 1)"]
    assert found["reduced"] == found["gathered"] == found["others"] == 0
    assert not any(map(sum, scaling.traffic(SMALL.parameters, "SAM", 1, 1)))


@pytest.mark.program
@pytest.mark.parametrize("method", ["ERM", "SAM", "m-SAM"])
def test_the_exchange_of_a_compiled_step_with_sharded_weights(received, method):
    found = received[f"{method} on {scaling_runs.ON_BOTH}"]
    data, fsdp, _ = scaling_runs.ON_BOTH
    said = scaling.traffic(SMALL.parameters, method, data, fsdp)
    # On CPU a gathered weight is kept for the backward pass, and an all-reduce stands
    # for the reduce-scatter, whose bytes are counted before it.
    expected = WIDER * sum(said.scattered + said.reduced)
    assert 0 <= found["reduced"] - expected < SCALARS
    assert found["gathered"] == pytest.approx(WIDER * sum(said.gathered) / 2, rel=0.03)
    assert found["others"] == 0


@pytest.mark.program
@pytest.mark.parametrize(
    ("method", "passes", "tolerance"),
    [("ERM", 1, 0.05), ("SAM", 2, 0.05), ("implicit m = 1", 2, 0.1)],
)
def test_the_work_of_a_compiled_step(received, method, passes, tolerance):
    last = f"{method} on {scaling_runs.ON_DATA[-1]}"
    more = received[f"{method}, more"]["flops"] - received[last]["flops"]
    added = (scaling_runs.MORE - scaling_runs.BATCH) / 8  # examples of a device
    # No step takes the gradient with respect to images.
    not_taken = passes * LAYERS[0].multiplications
    expected = 2 * (scaling.multiplications(SMALL, method) - not_taken)
    assert expected < more / added < (1 + tolerance) * expected


@pytest.mark.program
def test_the_memory_of_a_compiled_step(received):
    whole, both = scaling_runs.ON_DATA[-1], scaling_runs.ON_BOTH
    for shape in (whole, both):
        said = WIDER * scaling.memory(SMALL, "SAM", shape[1]).state
        key_and_step = 12
        assert received[f"SAM on {shape}"]["held"] - key_and_step == pytest.approx(
            said, rel=0.001
        )
    plain = received[f"ERM on {whole}"]["temporary"]
    for method in ("SAM", "implicit m = 1"):
        more = received[f"{method} on {whole}"]["temporary"] - plain
        said = WIDER * scaling.memory(SMALL, method, 1).perturbed
        assert more == pytest.approx(said, abs=0.15 * WEIGHTS)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ResNet-50", 25_557_032),
        ("ViT-B/16", 86_567_656),
        ("GPT 125M", 124_439_808),
        ("GPT 70B", 68_976_648_192),
    ],
)
def test_the_networks_have_the_published_numbers_of_parameters(name, parameters):
    (network,) = (n for n in scaling.NETWORKS if n.name == name)
    assert network.parameters == parameters


def test_resnet_50_has_the_published_multiplications():
    assert scaling.resnet50().forward == pytest.approx(4.09e9, rel=0.005)


def test_gram_is_taken_where_the_positions_are_few():
    # T <= K N / 3 (K + N): 768 / 6 = 128
    assert scaling.Layer(128, 768, 768).is_gram
    assert not scaling.Layer(129, 768, 768).is_gram


def test_rings_send_all_but_the_own_part():
    chip = scaling.H100._replace(near=100.0, far=10.0, node=4)
    assert scaling.gather_seconds(400.0, 1, chip) == 0
    assert scaling.gather_seconds(400.0, 4, chip) == 300 / 100
    # Four nodes: each chip's quarter goes around them first, by the slow links.
    assert scaling.gather_seconds(400.0, 16, chip) == 300 / 100 + 75 / 10
    assert scaling.all_reduce_seconds(400.0, 4, chip) == 2 * 300 / 100
    assert scaling.all_reduce_seconds(400.0, 2, chip, apart=4) == 2 * 200 / 10


def test_a_step_is_its_longer_part():
    network = scaling.gpt("small", 8, 16, 2, 32, 4)
    fast = scaling.H100._replace(near=1e30, far=1e30)
    slow = scaling.H100._replace(near=1.0, far=1.0)
    for method in scaling.METHODS:
        computing = scaling.compute_seconds(network, method, 4, fast)
        assert scaling.step_seconds(network, method, 4, 8, 1, fast) == pytest.approx(
            computing
        )
        sent = sum(scaling.traffic(network.parameters, method, 8, 1).reduced)
        assert scaling.step_seconds(network, method, 4, 8, 1, slow) == pytest.approx(
            2 * sent * 7 / 8, rel=1e-6
        )


def test_the_tables_of_the_page_are_those_of_the_functions():
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for title, text in scaling.tables().items():
        assert f"### {title}\n\n{text}\n" in page, title


def test_collectives_are_read_from_a_programs_text():
    class Program:
        def as_text(self):
            return """
  %a = f32[8,4]{1,0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
  %b = (f64[2]{0}, /*index=5*/bf16[3,5]{1,0}) all-reduce(%y, %z), to_apply=%add
  %c = f64[] all-gather-start(%x), dimensions={0}
  %d = f32[8]{0} add(%x, %y)
"""

    found = [(c.kind, c.nbytes) for c in compiled.collectives(Program())]
    assert found == [("all-reduce", 128), ("all-reduce", 46), ("all-gather", 8)]
