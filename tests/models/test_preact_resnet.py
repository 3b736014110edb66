"""Residual networks against those of the paper's authors, and by their properties."""

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import losses, models

REFERENCE = Path(__file__).parents[1] / "reference"
NORMS = {"batch": "preact_resnet18_bn.npz", "group": "preact_resnet18_gn.npz"}
LEAVES = {
    "weight": "scale",
    "bias": "bias",
    "running_mean": "mean",
    "running_var": "var",
}


def linen_path(name):
    """layer2/0/bn1/weight in torch is stage2_block1/norm1/scale in ours."""
    *layers, leaf = name.split("/")
    path = "/".join(layers)
    path = re.sub(
        r"layer(\d)/(\d)", lambda m: f"stage{m[1]}_block{int(m[2]) + 1}", path
    )
    path = path.replace("bn", "norm").replace("shortcut/0", "shortcut")
    path = {"conv1": "conv", "linear": "head"}.get(path, path)
    weights = path.endswith("head") or "conv" in path or "shortcut" in path
    leaf = "kernel" if weights and leaf == "weight" else LEAVES[leaf]
    return (*path.split("/"), leaf)


def from_torch(arrays, prefix):
    """The arrays under a prefix as {path in ours: float64 array}."""
    return {
        linen_path(name.removeprefix(prefix)): np.asarray(array, float)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def nested(flat):
    """{("a", "b"): x} as {"a": {"b": x}}."""
    tree = {}
    for path, value in flat.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return tree


def flat(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(entry.key for entry in path): leaf for path, leaf in leaves}


@pytest.fixture(scope="module", params=NORMS)
def peer(request):
    """The peer's network in our names, its numbers, and one training pass of ours."""
    with np.load(REFERENCE / NORMS[request.param]) as file:
        arrays = dict(file)
    norm = request.param
    options = {"width": int(arrays["width"]), "norm": norm}
    if norm == "group":
        options["groups"] = int(arrays["gn_groups"])
    model = models.create("preact_resnet18", num_classes=10, **options)
    variables = {"params": nested(from_torch(arrays, "params/"))}
    if norm == "batch":
        variables["batch_stats"] = nested(from_torch(arrays, "stats/"))
    x, y = arrays["x"].astype(float), arrays["y"]

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def train_pass(params):
        logits, updated = model.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return losses.cross_entropy(logits, y).mean(), (logits, updated)

    (loss, (logits, updated)), gradient = train_pass(variables["params"])
    return SimpleNamespace(
        norm=norm,
        arrays=arrays,
        model=model,
        variables=variables,
        x=x,
        loss=loss,
        logits=logits,
        updated=updated,
        gradient=flat(gradient),
    )


def test_the_conversion_covers_every_parameter(peer):
    image_shape = peer.x.shape[1:]
    expected = models.initialize(peer.model, jax.random.key(0), image_shape, "float64")
    assert jax.tree.structure(expected) == jax.tree.structure(peer.variables)
    jax.tree.map(
        lambda a, b: np.testing.assert_equal(a.shape, b.shape), expected, peer.variables
    )


def test_logits_in_train_mode_are_the_peers(peer):
    expected = peer.arrays["logits_train"]
    np.testing.assert_allclose(peer.logits, expected, rtol=1e-9)
    np.testing.assert_allclose(peer.loss, peer.arrays["loss_train"], rtol=1e-12)


def test_logits_in_eval_mode_are_the_peers(peer):
    received = jax.jit(partial(peer.model.apply, train=False))(peer.variables, peer.x)
    np.testing.assert_allclose(received, peer.arrays["logits_eval"], rtol=1e-9)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_float32_logits_are_the_peers_to_1e_5(peer, mode):
    variables, x = jax.tree.map(np.float32, (peer.variables, peer.x))
    apply = partial(peer.model.apply, train=mode == "train", mutable=["batch_stats"])
    received, _ = jax.jit(apply)(variables, x)
    assert received.dtype == jnp.float32
    expected = peer.arrays[f"logits_{mode}"]
    np.testing.assert_allclose(received, expected, atol=1e-5 * np.abs(expected).max())


def test_gradients_are_the_peers(peer):
    norms = from_torch(peer.arrays, "grad_norm_train/")
    assert norms.keys() == peer.gradient.keys()
    for path, expected in norms.items():
        received = np.linalg.norm(peer.gradient[path])
        np.testing.assert_allclose(received, expected, rtol=1e-9, err_msg=str(path))
    for path, expected in from_torch(peer.arrays, "grad_train/").items():
        np.testing.assert_allclose(peer.gradient[path], expected, rtol=1e-7, atol=1e-12)


def test_running_statistics_are_the_peers_up_to_the_unbiased_variance(peer):
    if peer.norm == "group":
        assert not peer.updated
        return
    before = from_torch(peer.arrays, "stats/")
    sides = {"stage1": 32, "stage2": 16, "stage3": 8, "stage4": 4, "norm": 4}
    received = flat(peer.updated["batch_stats"])
    after = from_torch(peer.arrays, "stats_after_train/")
    assert received.keys() == after.keys()
    for path, expected in after.items():
        # The first norm of a stage still sees the size of the stage before.
        side = sides[path[0].split("_")[0]]
        if (
            path[0].endswith("block1")
            and path[0] != "stage1_block1"
            and "norm1" in path
        ):
            side *= 2
        n = len(peer.x) * side**2
        if path[-1] == "var":  # torch keeps the unbiased one, flax the biased one
            expected = (
                0.9 * before[path] + (expected - 0.9 * before[path]) * (n - 1) / n
            )
        np.testing.assert_allclose(
            received[path], expected, rtol=2e-6, err_msg=str(path)
        )


def count(name, **options):
    model = models.create(name, num_classes=10, **options)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("preact_resnet10", 4.90), ("preact_resnet18", 11.17), ("preact_resnet34", 21.28)],
)
def test_parameter_counts_are_those_of_the_literature(name, millions):
    assert count(name) == pytest.approx(millions * 1e6, rel=1e-3)
    assert count(name, norm="group") == count(name)


# Properties, on a network of one block in each of two stages


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (4, 8, 8, 1))


def tiny(**options):
    return models.PreActResNet(num_classes=2, stage_sizes=(1, 1), width=4, **options)


@pytest.fixture(scope="module")
def variables():
    return {
        norm: models.initialize(
            tiny(norm=norm), jax.random.key(1), (8, 8, 1), jnp.float64
        )
        for norm in NORMS
    }


@partial(jax.jit, static_argnames=("model", "train"))
def run(model, variables, images, train=True):
    """(logits, updated statistics)"""
    return model.apply(variables, images, train=train, mutable=["batch_stats"])


def test_two_classes_have_two_logits(variables, images):
    logits, _ = run(tiny(), variables["batch"], images, train=False)
    assert logits.shape == (4, 2)
    assert (logits != 0).all()


def test_group_norm_looks_at_one_example_at_a_time(variables, images):
    model = tiny(norm="group")
    together, _ = run(model, variables["group"], images)
    for i in range(4):
        alone, _ = run(model, variables["group"], images[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-10)


@pytest.mark.parametrize(("groups", "equal"), [(2, True), (1, False), (4, False)])
def test_default_groups_are_half_the_width(variables, images, groups, equal):
    default, _ = run(tiny(norm="group"), variables["group"], images)
    given, _ = run(tiny(norm="group", groups=groups), variables["group"], images)
    assert np.allclose(default, given, rtol=1e-12) == equal


def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch(variables, images):
    expected, updated = run(tiny(), variables["batch"], images)
    synced = partial(run, tiny(axis_name="devices"), variables["batch"])
    # One example a device: allowed, since the statistics are those of four.
    logits, states = jax.vmap(synced, axis_name="devices")(images[:, None])
    np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-10)
    for state, whole in zip(*map(jax.tree.leaves, (states, updated)), strict=True):
        np.testing.assert_allclose(state, np.stack([whole] * 4), rtol=1e-10)


def test_batch_norm_of_vmapped_groups_uses_the_statistics_of_each(variables, images):
    apply = partial(run, tiny(), variables["batch"])
    received, _ = jax.vmap(apply)(images.reshape(2, 2, 8, 8, 1))
    for i in range(2):
        expected, _ = apply(images[2 * i : 2 * i + 2])
        np.testing.assert_allclose(received[i], expected, rtol=1e-10)


def test_batch_norm_of_one_example_in_train_mode_is_refused(variables, images):
    logits, _ = run(tiny(), variables["batch"], images[:1], train=False)
    assert logits.shape == (1, 2)
    apply = partial(run, tiny(), variables["batch"])
    with pytest.raises(ValueError, match=r"one example.*norm='group'.*m > 1"):
        apply(images[:1])
    with pytest.raises(ValueError, match="one example"):
        jax.vmap(apply)(images[:, None])  # groups of m = 1


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_computes_in_half_and_keeps_statistics_wide(variables, images, norm):
    params, x = jax.tree.map(np.float32, (variables[norm], images))
    half = tiny(norm=norm, dtype="bfloat16")
    expected, _ = run(tiny(norm=norm), params, x)
    received, updated = run(half, params, x)
    np.testing.assert_allclose(received.astype(float), expected, atol=0.05)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updated))
    apply = partial(
        half.apply,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=True,
    )
    layers = jax.eval_shape(apply, params, x)[1]["intermediates"]
    assert {leaf.dtype for leaf in jax.tree.leaves(layers)} == {jnp.dtype("bfloat16")}
