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
# # 6. A language model, at equal cost
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sam-jax/sam_jax/blob/main/notebooks/06_language_model.ipynb)
#
# Plain SAM is said to hurt language models, and its direction alone
# (`sam_direction`, Functional-SAM) to help them. A small GPT on the bytes of Python's
# standard library shows how to compare such things fairly: SAM takes two gradients a
# step, so it gets half the steps.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("google.colab"):
    source = "git+https://github.com/sam-jax/sam_jax"
    extra = f"sam_jax[train] @ {source}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", extra], check=True)

# %% tags=["parameters"]
gradients, width, examples = 400, 64, 2048

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import sam_jax

# %% [markdown]
# ## Data and network
# An example is a sequence of 64 bytes; its labels are the bytes that follow. No part of
# a training file is in the test set.

# %%
text = sam_jax.data.load("stdlib", length=64)
train = text.train_images[:examples], text.train_labels[:examples]
test = text.test_images[:256], text.test_labels[:256]
print(bytes(train[0][0].ravel().astype(np.uint8)))

net = sam_jax.models.create(
    "gpt", num_classes=256, depth=2, width=width, heads=2, positions="rotary"
)
shape = train[0].shape[1:]
variables = sam_jax.models.initialize(
    net, jax.random.key(0), shape, input_dtype=jnp.int32
)
params = variables["params"]
print(f"{sum(p.size for p in jax.tree.leaves(params)):,} parameters")

# %% [markdown]
# ## An objective
# `sam_direction` looks inside of the loss: it takes the loss derivative at w and
# everything else at the ascent point. So it is given outputs and losses apart. The loss
# of a sequence is the mean over its bytes.

# %%
of_sequences = sam_jax.losses.over_tokens(sam_jax.losses.cross_entropy)
objective = sam_jax.Objective(
    predict=lambda p, batch: net.apply({"params": p}, batch["tokens"], False),
    loss=lambda logits, batch: of_sequences(logits, batch["labels"]),
)


held_out = {"tokens": jnp.asarray(test[0]), "labels": jnp.asarray(test[1])}


@jax.jit
def bits(p):
    """Mean loss of the test set, in bits a byte."""
    losses = objective.loss(objective.predict(p, held_out), held_out)
    return losses.mean() / jnp.log(2)


# %% [markdown]
# ## Training
# The same optimiser, data and number of *gradients*; the rate decays to zero over each
# one's own number of steps.


# %%
def fit(rho, swap=None, batch_size=16, seed=0):
    cost = 1 if rho == 0 else 2
    steps = gradients // cost
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 10, steps)),
    )
    take = sam_jax.value_and_grad(objective, rho=rho, swap=swap)

    @jax.jit
    def step(p, state, batch):
        _, gradient = take(p, batch)
        updates, state = optimizer.update(gradient, state, p)
        return optax.apply_updates(p, updates), state

    p, state = params, optimizer.init(params)
    order, curve = np.random.default_rng(seed), []
    for i in range(steps):
        chosen = order.integers(0, len(train[0]), batch_size)
        p, state = step(
            p, state, {"tokens": train[0][chosen], "labels": train[1][chosen]}
        )
        if (i + 1) % max(1, steps // 10) == 0:
            curve.append((cost * (i + 1), float(bits(p))))
    return p, np.array(curve)


runs = {
    "AdamW": fit(rho=0.0),
    "SAM, rho = 0.05": fit(rho=0.05),
    "direction, rho = 0.05": fit(rho=0.05, swap="direction"),
}

# %%
figure, axes = plt.subplots(figsize=(5, 3.2))
for name, (_, curve) in runs.items():
    axes.plot(*curve.T, label=name)
axes.set(xlabel="gradients", ylabel="test loss (bits a byte)")
axes.legend(frameon=False)
for name, (_, curve) in runs.items():
    print(f"{name:22} {curve[-1, 1]:.3f} bits a byte")

# %% [markdown]
# In so short a training half the steps weigh more than anything that SAM may bring:
# that is the fair comparison, and the one to beat. `active_between` and
# `periodic` pay for SAM in a part of the steps alone;
# `python -m experiments run gpt --scale=cpu` compares them over seeds and radii.
#
# ## Flatter?
# What SAM is after: how much the loss rises one step uphill, here of length 0.5.

# %%
for name, (p, _) in runs.items():
    g = sam_jax.loss_gradient(objective, p, held_out).gradient
    scale = 0.5 / optax.global_norm(g)
    ascended = jax.tree.map(lambda w, d, scale=scale: w + scale * d, p, g)
    print(f"{name:22} + {float(bits(ascended) - bits(p)):.3f} bits a byte")
