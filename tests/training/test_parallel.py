import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from sam_jax.training import parallel
from tests.training import device_processes
from tests.training.device_processes import finish
from tests.training.devices import KINDS

pytestmark = pytest.mark.program

RUNS = [
    *(f"steps with m={m}" for m in (1, 2, 4, 8)),
    *(f"steps of {kind}" for kind in KINDS),
    "run",
    "attacked run",
]


def start(devices, *arguments, shared):
    """Runs tests/training/devices.py with so many CPU devices."""
    name = "tests.training.devices"
    return device_processes.start(name, devices, *arguments, SHARED=shared)


@pytest.fixture(scope="module")
def received(tmp_path_factory):
    """Final parameters and figures of every run on 1, 2 and 4 devices."""
    folder = tmp_path_factory.mktemp("devices")
    finish(start(4, folder / "out.json", shared=folder))
    return json.loads((folder / "out.json").read_text())


def compare(received, expected):
    assert received.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(
            received[name], expected[name], rtol=1e-12, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("name", RUNS)
def test_hazard_07_the_number_of_devices_changes_nothing(received, name, devices):
    compare(received[f"{name} on {devices}"], received[f"{name} on 1"])


def test_m_changes_something(received):
    kernels = [
        np.array(received[f"{name} on 1"]["[0]['Dense_1']['kernel']"])
        for name in RUNS[1:4]
    ]
    assert not np.allclose(kernels[0], kernels[1], rtol=1e-6)
    assert not np.allclose(kernels[1], kernels[2], rtol=1e-6)


@pytest.mark.program
def test_two_processes_train_as_one(received, tmp_path):
    coordinator = device_processes.free_address()
    outs = [tmp_path / f"{i}.json" for i in range(2)]
    processes = [
        start(1, out, coordinator, i, 2, shared=tmp_path) for i, out in enumerate(outs)
    ]
    finish(*processes)
    for out in outs:
        both = json.loads(out.read_text())
        for name in RUNS:
            compare(both[f"{name} on 2"], received[f"{name} on 1"])
    written = {path.name for path in (tmp_path / "run" / "2").iterdir()}
    assert {"config.json", "metrics.jsonl", "summary.json", "curves.png"} < written
    lines = (tmp_path / "run" / "2" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 1  # by the first process alone


def test_processes_with_different_configurations_refuse_to_train(tmp_path):
    script = (
        "import sys; from sam_jax.training import loop, parallel\n"
        "from tests.training.problems import tiny\n"
        "parallel.connect(sys.argv[1], int(sys.argv[2]), 2)\n"
        "config = tiny(sam__kind='sam', sam__rho=float(sys.argv[3]), batch_size=32)\n"
        "config.model.dtype = 'float32'\n"
        "loop.prepare(config, sys.argv[4])\n"
    )
    coordinator = device_processes.free_address()
    arguments = [(str(i), rho, tmp_path / str(i)) for i, rho in enumerate((0.1, 0.2))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, coordinator, *map(str, given)],
            cwd=device_processes.ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for given in arguments
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert "of this run differ in their configuration; start all" in errors
    assert not list(tmp_path.rglob("config.json"))


def test_several_processes_need_a_coordinator():
    with pytest.raises(ValueError, match="process_count=2, process_id=0 without a co"):
        parallel.connect("", 0, 2)


def test_a_batch_that_the_devices_cannot_share_is_refused():
    assert parallel.per_device(12, 4, "batch_size") == 3
    with pytest.raises(ValueError, match=r"batch_size=10 for 4 devices.* Take 8"):
        parallel.per_device(10, 4, "batch_size")


def test_more_devices_than_there_are_is_refused():
    count = jax.device_count()
    with pytest.raises(ValueError, match=f"devices={count + 1}"):
        parallel.layout(count + 1)


def test_consecutive_examples_stay_on_a_device():
    layout = parallel.Layout(2, tuple(jax.devices()[:1]) * 2)
    rows = layout.split(np.arange(8))
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3], [4, 5, 6, 7]])
