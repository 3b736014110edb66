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
# # 5. Robustness: adversarial training, and AutoAttack on your own model
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sam-jax/sam_jax/blob/main/notebooks/05_robustness.ipynb)
#
# An adversarial image differs from a real one by at most $\varepsilon$ and is
# misclassified. Below: a network trained on images as they are and one trained on
# attacked images, both measured by AutoAttack; then the attacks on any function from
# images to logits.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("google.colab"):
    source = "sam_jax[train] @ git+https://github.com/sam-jax/sam_jax"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
epochs = 30
count = 128
eps = 0.15

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.tree_util import Partial

import sam_jax
from sam_jax import attacks

# %% [markdown]
# ## Two networks
# scikit-learn's digits, 8x8 pixels in [0, 1]. `attacks.pgd` works inside a compiled
# step: five steps of size $2\varepsilon/5$ from a random point, then the gradient on
# the attacked batch. `sam_jax.training` does the same with SAM, GCE, pairing and
# TRADES (`configs/cifar10_at.py`).

# %%
digits = sam_jax.data.load("digits")
x_train = jnp.asarray(digits.train_images * digits.scale, jnp.float32)
y_train = jnp.asarray(digits.train_labels)
x = jnp.asarray(digits.test_images * digits.scale, jnp.float32)[:count]
y = jnp.asarray(digits.test_labels)[:count]

net = sam_jax.models.create("conv_net", num_classes=10, widths=(16, 32), hidden=64)
tx = optax.adam(1e-3)


def logits(params, images):
    return net.apply({"params": params}, images, train=False)


def loss(params, images, labels):
    return sam_jax.losses.cross_entropy(logits(params, images), labels).mean()


def fit(eps):
    @jax.jit
    def step(params, state, images, labels, key):
        if eps:
            predict = Partial(logits, params)
            images = attacks.pgd(
                predict, images, labels, eps=eps, steps=5, step_size=eps * 0.4, key=key
            )
        updates, state = tx.update(jax.grad(loss)(params, images, labels), state)
        return optax.apply_updates(params, updates), state

    params = net.init(jax.random.key(0), x[:1], train=False)["params"]
    state = tx.init(params)
    for epoch in range(epochs):
        for indices in sam_jax.data.epoch_batches(0, epoch, len(y_train), 64):
            key = jax.random.fold_in(jax.random.key(epoch), int(indices[0]))
            params, state = step(params, state, x_train[indices], y_train[indices], key)
    return params


plain, robust = fit(0), fit(eps)

# %% [markdown]
# ## AutoAttack
# Four attacks, each on the images that resisted the ones before. Parameters go into a
# `Partial`, so that the second network compiles nothing.

# %%
found = {}
for name, params in {"plain": plain, "adversarially trained": robust}.items():
    found[name] = attacks.auto_attack(
        Partial(logits, params), x, y, eps=eps, key=jax.random.key(0), verbose=False
    )
    errors = found[name].robust_error
    print(name, {attack: f"{error:.1%}" for attack, error in errors.items()})

# %%
adversarial = found["plain"].adversarial
shown = np.flatnonzero(~found["plain"].robust)[:6]
predicted = logits(plain, adversarial).argmax(-1)
figure, axes = plt.subplots(2, 6, figsize=(9, 3.2))
for column, i in enumerate(shown):
    for row, (images, label) in enumerate(((x, y[i]), (adversarial, predicted[i]))):
        axes[row, column].imshow(images[i, :, :, 0], cmap="gray", vmin=0, vmax=1)
        axes[row, column].set_title(int(label))
for ax in axes.flat:
    ax.axis("off")

# %% [markdown]
# ## How far is the nearest adversarial image?
# FAB without a radius gives the nearest misclassified point that it finds.

# %%
for name, params in {"plain": plain, "adversarially trained": robust}.items():
    points = attacks.fab(Partial(logits, params), x[:32], y[:32], norm="l2", steps=20)
    distance = jnp.sqrt(jnp.sum((points - x[:32]) ** 2, axis=(1, 2, 3)))
    print(f"{name}: median l2 distance {jnp.median(distance):.2f}")

# %% [markdown]
# ## Your own model, and when not to believe a robust error
# Anything that maps images in [0, 1] to logits will do. A network that rounds its
# inputs has gradients of zero: gradient attacks find nothing, and AutoAttack says so.

# %%
import warnings


def rounded(images):
    return logits(plain, jnp.round(images * 16) / 16)


with warnings.catch_warnings(record=True):
    warnings.simplefilter("always")
    result = attacks.auto_attack(
        rounded, x, y, eps=eps, key=jax.random.key(0), verbose=False
    )
print(result.robust_error)
for sign in result.signs:
    print("-", sign)
