# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Per-example SAM without per-example weights
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sam-jax/sam_jax/blob/main/notebooks/04_per_example_sam.ipynb)
#
# SumMax, SAM with $m = 1$, gives every example weights of its own, $w_i = w + \rho\,
# g_i / \|g_i\|$ with $g_i = \nabla \ell_i(w)$, and descends along the mean of
# $\nabla \ell_i(w_i)$. Written with `vmap` that takes $n$ copies of the weights. Below:
# why one layer needs none of them, and what that saves in a whole network.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("google.colab"):
    source = "sam_jax[train] @ git+https://github.com/sam-jax/sam_jax"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
batches = (8, 16, 32, 64, 128)
width = 512
repeats = 5

# %%
# %matplotlib inline
import time

import jax
import jax.numpy as jnp
import numpy as np

import sam_jax
from sam_jax import plotting

# %% [markdown]
# ## One layer
# One example passes a dense layer $y = x W$ at $T$ positions (tokens, pixels; a single
# one in a plain MLP). With $X$ its inputs, $[T, K]$, and $D = \partial \ell_i /
# \partial y$ the signal that backpropagation brings to its outputs, $[T, N]$, its
# gradient is $G = X^\top D$.

# %%
T, K, N = 3, 40, 30
random = np.random.default_rng(0)
X, W, target = (random.standard_normal(s) for s in ((T, K), (K, N), (T, N)))


def loss(y):
    return jnp.sum(jnp.tanh(y - target))


D = np.asarray(jax.grad(loss)(X @ W))
G = np.asarray(jax.grad(lambda W: loss(X @ W))(W))
print("G is X^T D:            ", np.abs(G - X.T @ D).max())

# %% [markdown]
# **Its norm** needs two small matrices only, $[T, T]$ each, because a trace may be
# turned round:
# $$\|G\|^2 = \operatorname{tr}(D^\top X X^\top D)
# = \langle X X^\top,\, D D^\top \rangle.$$

# %%
print("|G|^2 from two grams:  ", np.sum(G**2) - np.sum((X @ X.T) * (D @ D.T)))

# %% [markdown]
# **The layer at the example's own weights**, for new inputs $X'$ (those of the second
# pass, where the layers before have moved, too), with $c = \rho / \|g_i\|$:
# $$X' (W + c\, X^\top D) = X' W + c\, (X' X^\top)\, D.$$
# The first term is the ordinary layer, one product for the whole batch with the shared
# $W$. The second costs about $T^2 (K + N)$ instead of $T K N$ and forms nothing of the
# size of $W$. The descent gradient is then one ordinary backward pass.

# %%
X2, c = random.standard_normal((T, K)), 0.05 / np.linalg.norm(G)
own_weights = X2 @ (W + c * G)
without = X2 @ W + c * (X2 @ X.T) @ D
print("x'(W + c G) without G: ", np.abs(own_weights - without).max())

# %% [markdown]
# A convolution is such a layer, with a patch of the image at every position. Where $T$
# is so large that the grams cost more than $G$ (the first layers of a convolutional
# network, whose kernels are small), $G$ itself is formed, one small matrix an example.
# The library decides so for every parameter of a network, whatever it is written in:

# %%
module = sam_jax.models.create("conv_net", num_classes=10)
variables = sam_jax.models.initialize(module, jax.random.key(0), (28, 28, 1))
objective = sam_jax.Objective(
    lambda params, batch: module.apply({"params": params}, batch["x"], train=True),
    lambda logits, batch: sam_jax.losses.cross_entropy(logits, batch["y"]),
)
example = {"x": jnp.zeros((8, 28, 28, 1)), "y": jnp.zeros(8, int)}
print(sam_jax.implicit_report(objective, variables["params"], example))

# %% [markdown]
# ## A whole network
# An MLP on images of 28x28, one step of each kind: plain SAM (one perturbation for the
# batch), SumMax by `vmap` over copies of the weights, and SumMax without them.

# %%
module = sam_jax.models.create("mlp", num_classes=10, widths=(width, width))
variables = sam_jax.models.initialize(module, jax.random.key(0), (28, 28, 1))
params = variables["params"]


def plain(params, batch):
    result = sam_jax.sharpness_aware_gradient(objective, params, batch, rho=0.05)
    return result.gradient


def by_vmap(params, batch):
    result = sam_jax.sharpness_aware_gradient(objective, params, batch, rho=0.05, m=1)
    return result.gradient


def implicit(params, batch):
    return sam_jax.implicit_gradient(objective, params, batch, rho=0.05, m=1)[1]


ways = {"SAM": plain, "SumMax, vmap": by_vmap, "SumMax, implicit": implicit}
milliseconds = {way: [] for way in ways}
mebibytes = {way: [] for way in ways}
gradients = {}
for n in batches:
    batch = {
        "x": jnp.asarray(random.standard_normal((n, 28, 28, 1)), jnp.float32),
        "y": jnp.asarray(random.integers(0, 10, n)),
    }
    for way, gradient in ways.items():
        step = jax.jit(gradient).lower(params, batch).compile()
        gradients[way] = jax.block_until_ready(step(params, batch))
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            jax.block_until_ready(step(params, batch))
            seconds.append(time.perf_counter() - start)
        milliseconds[way].append(1e3 * np.median(seconds))
        temporary = step.memory_analysis().temp_size_in_bytes
        mebibytes[way].append(temporary / 2**20)

# %%
figure, axes = plotting.panels(1, 2)
for panel, quantity in zip(axes, (milliseconds, mebibytes), strict=True):
    for (way, values), color in zip(quantity.items(), plotting.COLORS, strict=False):
        panel.plot(batches, values, "o-", color=color, label=way)
    panel.set(xlabel="batch", xscale="log", yscale="log")
axes[0].set_ylabel("milliseconds a step")
axes[1].set_ylabel("temporary memory (MiB)")
axes[0].legend(frameon=False)
figure

# %% [markdown]
# Both ways to SumMax give the same gradient, to rounding:

# %%
pairs = zip(
    jax.tree.leaves(gradients["SumMax, implicit"]),
    jax.tree.leaves(gradients["SumMax, vmap"]),
    strict=True,
)
difference = sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs) ** 0.5
print(
    "distance / norm:",
    difference / float(sam_jax.core.trees.norm(gradients["SumMax, vmap"])),
)

# %% [markdown]
# In an optax chain it is `sam_jax.sum_max(rho=0.05, m=1)` with `objective=` given to
# `update` (notebook 1); in a training run, `--config.sam.kind=sum_max`. Gradient norms
# of single examples, for clipping or for pruning data, come from the first pass alone:

# %%
norms = sam_jax.per_example_norms(objective, params, batch)
print(np.round(np.asarray(norms[:8]), 3))
