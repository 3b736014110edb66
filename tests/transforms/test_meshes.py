"""Every transform on meshes of eight devices, and what is refused under shard_map."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import sam_jax
from sam_jax.core import devices, groups
from sam_jax.transforms import VARIANTS
from tests.transforms import mesh_networks, meshes
from tests.transforms.problems import BATCH, OBJECTIVE, PARAMS, assert_same, grad_fn

pytestmark = pytest.mark.program

LAYOUTS = ("Auto, split", "Explicit, replicated", "Explicit, split", "shard_map")


def distances(*arguments):
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    run = subprocess.run(
        [sys.executable, "-m", "tests.transforms.meshes", *arguments],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def found():
    return distances()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_kind_of_transform_is_that_of_one_device(found, layout):
    assert len(found[layout]) >= len(meshes.CASES)
    assert max(found[layout].values()) < 1e-12


@pytest.mark.parametrize("network", mesh_networks.NETWORKS)
def test_networks_with_split_weights_are_those_of_one_device(found, network):
    assert found[network].keys() == mesh_networks.CASES[network].keys()
    assert max(found[network].values()) < 1e-12


@pytest.mark.heavy
def test_every_variant_is_that_of_one_device():
    found = distances("all")
    assert set(found) == set(LAYOUTS)
    for layout in LAYOUTS:
        assert len(found[layout]) >= len(VARIANTS)
        assert max(found[layout].values()) < 1e-12


def under_shard_map(function, *, check=True):
    """function(params, own copy of them, batch) on a mesh of one device."""
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(AxisType.Auto,))

    def mapped(params, batch):
        own = jax.lax.pcast(params, "devices", to="varying") if check else params
        return function(params, own, batch)

    return jax.jit(
        jax.shard_map(
            mapped,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("devices")),
            out_specs=PartitionSpec(),
            check_vma=check,
        )
    )(PARAMS, BATCH)


def update(make, gradient, params, batch, **oracle):
    tx = make(0.3, axis_name="devices")
    return tx.update(gradient, tx.init(params), params, batch=batch, **oracle)[0]


def averaged_loss(params, batch):
    return jax.lax.pmean(OBJECTIVE.value(params, batch), "devices")


def averaged_losses(outputs, batch):
    return jax.lax.pmean(OBJECTIVE.loss(outputs, batch), "devices")


AVERAGED = sam_jax.Objective(OBJECTIVE.predict, averaged_losses)


def averaged_gradient(params, batch):
    return jax.lax.pmean(grad_fn(params, batch), "devices")


# Each returns updates; the gradient of shared parameters is summed over devices.
WRONG = {
    "a gradient of shared parameters": (
        lambda p, own, b: update(sam_jax.gsam, grad_fn(p, b), p, b, grad_fn=grad_fn),
        "a gradient that is summed",
    ),
    "the same at rho = 0": (
        lambda p, own, b: update(
            lambda rho, **k: sam_jax.sam(0.0, **k), grad_fn(p, b), p, b, grad_fn=grad_fn
        ),
        "a gradient that is summed",
    ),
    "the same between periods": (
        lambda p, own, b: sam_jax.periodic(
            sam_jax.sum_max(0.3, axis_name="devices"), 2, axis_name="devices"
        ).update(
            grad_fn(p, b),
            sam_jax.periodic(sam_jax.sam(0.3), 2).init(p),
            p,
            objective=OBJECTIVE,
            batch=b,
        )[0],
        "a gradient that is summed",
    ),
    "a grad_fn of an averaged loss": (
        lambda p, own, b: update(
            sam_jax.sam, grad_fn(own, b), p, b, grad_fn=jax.grad(averaged_loss)
        ),
        "a grad_fn whose loss is summed",
    ),
    "a grad_fn that averages": (
        lambda p, own, b: update(
            sam_jax.sam, grad_fn(own, b), p, b, grad_fn=averaged_gradient
        ),
        "a grad_fn whose result is summed",
    ),
    "averaged losses": (
        lambda p, own, b: update(
            sam_jax.sam, grad_fn(own, b), p, b, objective=AVERAGED
        ),
        "a loss that is summed",
    ),
    "averaged losses, implicitly": (
        lambda p, own, b: update(
            sam_jax.sum_max, grad_fn(own, b), p, b, objective=AVERAGED
        ),
        "a loss that is summed",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_averaged_twice_or_summed_is_refused_under_the_checks(name):
    function, message = WRONG[name]
    with pytest.raises(ValueError, match=rf"Received {message} over the devices of"):
        under_shard_map(function)


def test_means_over_devices_pass_where_nothing_tells_them_from_sums():
    """Without the checks pmean is its own transpose, and these are right."""

    def gradient(p, own, b):
        averaged = jax.grad(averaged_loss)
        return update(sam_jax.gsam, averaged(p, b), p, b, grad_fn=averaged)

    alone = sam_jax.gsam(0.3)
    expected, _ = alone.update(
        grad_fn(PARAMS, BATCH),
        alone.init(PARAMS),
        PARAMS,
        grad_fn=grad_fn,
        batch=BATCH,
    )
    assert_same(under_shard_map(gradient, check=False), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: sam_jax.sam(0.0, **k),
        lambda **k: sam_jax.active_between(sam_jax.sam(0.3, **k), 5, **k),
        lambda **k: sam_jax.periodic(sam_jax.sam(0.3, **k), 2, **k),
    ],
    ids=["rho = 0", "active_between", "periodic"],
)
def test_a_gradient_that_is_handed_on_is_the_mean_over_devices(make):
    tx = make(axis_name="devices")
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), BATCH)
    state = tx.init(PARAMS)
    if hasattr(state, "inner"):
        state = state._replace(count=jnp.int32(1))

    def one_device(batch):
        gradient = grad_fn(PARAMS, batch)
        return tx.update(gradient, state, PARAMS, grad_fn=grad_fn, batch=batch)[0]

    received = jax.vmap(one_device, axis_name="devices")(halves)
    expected = grad_fn(PARAMS, BATCH)
    for device in range(2):
        assert_same(jax.tree.map(lambda x, d=device: x[d], received), expected)


@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_means_within_spans_by_exchange_are_those_of_each_span(width):
    """Under vmap, which lets any function run over a named axis."""
    x = np.random.default_rng(0).standard_normal((12, 3))
    spans = groups.spans(width, 12)
    exchange = functools.partial(
        devices._mean_by_exchange, axis_name="devices", spans=spans
    )
    received = jax.vmap(exchange, axis_name="devices")(x)
    expected = np.repeat(x.reshape(-1, width, 3).mean(1), width, axis=0)
    np.testing.assert_allclose(received, expected, rtol=1e-14)
