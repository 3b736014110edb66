"""Models on four devices, in a process of their own with four virtual ones."""

import json
import os
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from sam_jax import models

SCRIPT = """
import json
from functools import partial
import jax, numpy as np
from sam_jax import models

options = dict(num_classes=2, stage_sizes=(1,), width=2)
model = models.PreActResNet(
    **options, axis_name="devices", axis_index_groups=[[0, 1], [2, 3]]
)
variables = models.initialize(model, jax.random.key(0), (4, 4, 1))
images = jax.random.normal(jax.random.key(1), (4, 2, 4, 4, 1), "float32")
apply = partial(model.apply, variables, train=True, mutable=["batch_stats"])
logits, updated = jax.pmap(apply, axis_name="devices")(images)
print(json.dumps({
    "devices": jax.device_count(),
    "initial": [np.asarray(x).tolist() for x in jax.tree.leaves(variables)],
    "logits": logits.tolist(),
    "mean": updated["batch_stats"]["norm"]["mean"].tolist(),
}))
"""


@pytest.fixture(scope="module")
def received():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": os.environ["XLA_FLAGS"]
        + " --xla_force_host_platform_device_count=4",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", SCRIPT]
    out = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    numbers = json.loads(out.stdout)
    assert numbers["devices"] == 4
    return numbers


@pytest.fixture(scope="module")
def variables():
    model = models.PreActResNet(num_classes=2, stage_sizes=(1,), width=2)
    return model, models.initialize(model, jax.random.key(0), (4, 4, 1))


def test_initial_numbers_do_not_depend_on_the_number_of_devices(received, variables):
    expected = jax.tree.leaves(variables[1])
    for there, here in zip(received["initial"], expected, strict=True):
        np.testing.assert_array_equal(np.float32(there), here)


def test_batch_norm_shares_statistics_within_device_groups(received, variables):
    model, values = variables
    images = jax.random.normal(jax.random.key(1), (4, 2, 4, 4, 1), "float32")
    apply = partial(model.apply, values, train=True, mutable=["batch_stats"])
    # Two pairs of devices with two images each: two batches of four.
    logits, updated = jax.jit(jax.vmap(apply))(images.reshape(2, 4, 4, 4, 1))
    received_logits = np.reshape(received["logits"], (2, 4, 2))
    np.testing.assert_allclose(received_logits, logits, 1e-5, atol=1e-6)
    mean = np.repeat(updated["batch_stats"]["norm"]["mean"], 2, axis=0)
    np.testing.assert_allclose(received["mean"], mean, 1e-5, atol=1e-7)
