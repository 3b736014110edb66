"""AdamW and Muon: which leaves they treat how, and steps against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import models
from sam_jax.training import configuration, optimizers, state
from tests.training.problems import tiny

random = np.random.default_rng(0)
PARAMS = {
    "block1": {"dense1": {"kernel": random.normal(size=(6, 4)), "bias": np.ones(4)}},
    "norm": {"scale": np.full(3, 2.0), "bias": np.ones(3)},
    "embed": {"embedding": random.normal(size=(5, 3))},
    "head": {"kernel": random.normal(size=(3, 5)), "bias": np.ones(5)},
}
GRADIENT = jax.tree.map(lambda w: random.normal(size=w.shape), PARAMS)


def direction(**changes):
    """What the first step goes along."""
    settings = configuration.check(tiny(**changes)).optimizer
    optimizer = state.make_optimizer(settings)
    params = jax.tree.map(jnp.asarray, PARAMS)
    return optimizer.update(GRADIENT, optimizer.init(params), params)[0]


def test_adamw_is_adam_that_decays_no_bias_and_no_scale():
    """Adam's first direction is g / (|g| + epsilon): bias corrections cancel betas."""
    plain, spared = (
        direction(optimizer__name=name, optimizer__weight_decay=0.1)
        for name in ("adam", "adamw")
    )
    leaves = jax.tree_util.tree_leaves_with_path(PARAMS)
    for i, (path, w) in enumerate(leaves):
        g = jax.tree.leaves(GRADIENT)[i]
        adam = g / (np.abs(g) + 1e-8)
        np.testing.assert_allclose(jax.tree.leaves(plain)[i], adam + 0.1 * w, rtol=1e-6)
        decay = 0.0 if path[-1].key in ("bias", "scale") else 0.1
        np.testing.assert_allclose(
            jax.tree.leaves(spared)[i], adam + decay * w, rtol=1e-6
        )


def test_muon_orthogonalises_hidden_kernels_and_is_adamw_elsewhere():
    changes = {"optimizer__weight_decay": 0.1, "optimizer__momentum": 0.95}
    muon = direction(optimizer__name="muon", **changes)
    adamw = direction(optimizer__name="adamw", **changes)
    kernel = muon["block1"]["dense1"].pop("kernel")
    adamw["block1"]["dense1"].pop("kernel")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), muon, adamw)
    w, g = (tree["block1"]["dense1"]["kernel"] for tree in (PARAMS, GRADIENT))
    u, _, v = np.linalg.svd(g, full_matrices=False)
    # Newton-Schulz brings the singular values near 1, to .7 to 1.2 (Jordan 2024); the
    # root mean square of the step is .2 (Liu et al. 2025).
    inner = u.T @ (kernel - 0.1 * w) @ v.T / (0.2 * np.sqrt(6))
    np.testing.assert_allclose(np.diag(inner), 1, atol=0.35)
    np.testing.assert_allclose(inner - np.diag(np.diag(inner)), 0, atol=1e-6)


@pytest.mark.parametrize("scan", [False, True])
def test_the_hidden_kernels_of_a_transformer_are_taken_layer_by_layer(scan):
    for name, shape, dtype in (("vit", (8, 8, 1), "float32"), ("gpt", (8,), "int32")):
        options = {"depth": 2, "width": 4, "heads": 2, "scan": scan}
        if name == "vit":
            options["patch"] = 4
        module = models.create(name, num_classes=3, **options)
        params = jax.eval_shape(
            lambda k, m=module, s=shape, d=dtype: models.initialize(m, k, s, "f4", d),
            jax.random.key(0),
        )["params"]
        leaves = jax.tree_util.tree_leaves_with_path(
            optimizers.hidden_kernels(params),
            is_leaf=lambda x: hasattr(x, "reduction_axis"),
        )
        found = {jax.tree_util.keystr(p): numbers for p, numbers in leaves}
        assert len(found) == (6 if scan else 12)
        assert all("block" in path and path.endswith("['kernel']") for path in found)
        axes = {(n.reduction_axis, n.output_axis) for n in found.values()}
        assert axes == {(1, 2) if scan else (0, 1)}


def test_stacked_layers_get_the_steps_of_single_ones():
    kernels = random.normal(size=(2, 6, 4))
    settings = configuration.check(
        tiny(optimizer__name="muon", optimizer__momentum=0.9)
    ).optimizer

    def step(params):
        optimizer = state.make_optimizer(settings)
        return optimizer.update(params, optimizer.init(params), params)[0]

    stacked = step({"blocks": {"dense1": {"kernel": jnp.asarray(kernels)}}})
    for i, kernel in enumerate(kernels):
        single = step({"block1": {"dense1": {"kernel": jnp.asarray(kernel)}}})
        np.testing.assert_allclose(
            stacked["blocks"]["dense1"]["kernel"][i],
            single["block1"]["dense1"]["kernel"],
            rtol=1e-5,
        )
