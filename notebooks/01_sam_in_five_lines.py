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
# # 1. SAM in five lines of optax
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sam-jax/sam_jax/blob/main/notebooks/01_sam_in_five_lines.ipynb)
#
# Sharpness-aware minimisation descends along the gradient at a nearby point of higher
# loss: $w \leftarrow w - \gamma\, \nabla L\big(w + \rho\, \nabla L(w) /
# \|\nabla L(w)\|_2\big)$. In `sam_jax` that is a link of an `optax.chain`: it replaces
# the gradient, and whatever follows it (momentum, Adam, clipping) works as ever. Below
# it trains the same classifier written in plain JAX, in flax linen and in flax nnx.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("google.colab"):
    source = "sam_jax[train] @ git+https://github.com/sam-jax/sam_jax"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
steps = 300
rho = 0.3

# %%
import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

import sam_jax

# %% [markdown]
# ## Data
# The handwritten digits of scikit-learn, 8x8 pixels, with 40% of the training labels
# replaced by random ones.

# %%
digits = sam_jax.data.load("digits")
noisy, changed = sam_jax.data.add_label_noise(0, digits.train_labels, 0.4, 10)


def inputs(images):
    images = sam_jax.data.normalize(images, digits.mean, digits.std)
    return images.reshape(len(images), -1)


train = {"x": inputs(digits.train_images), "y": jnp.asarray(noisy)}
test = {"x": inputs(digits.test_images), "y": jnp.asarray(digits.test_labels)}
print(f"{len(noisy)} training images, {changed.mean():.0%} with a changed label")

# %% [markdown]
# ## Plain JAX
# The five lines: a chain with `sam`, a gradient function of `(params, batch)`, and an
# update that is given both.


# %%
def predict(params, batch):
    hidden = jax.nn.relu(batch["x"] @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


def loss(params, batch):
    logits = predict(params, batch)
    return sam_jax.losses.cross_entropy(logits, batch["y"]).mean()


def fit(tx):
    k1, k2 = jax.random.split(jax.random.key(0))
    params = {
        "w1": jax.random.normal(k1, (64, 128)) * (2 / 64) ** 0.5,
        "b1": jnp.zeros(128),
        "w2": jax.random.normal(k2, (128, 10)) * (1 / 128) ** 0.5,
        "b2": jnp.zeros(10),
    }

    @jax.jit
    def step(params, state, batch):
        grads = jax.grad(loss)(params, batch)
        updates, state = tx.update(
            grads, state, params, grad_fn=jax.grad(loss), batch=batch
        )
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(steps):
        params, state = step(params, state, train)
    return params


def test_error(logits):
    return float(sam_jax.metrics.errors(logits, test["y"]).mean())


sgd = optax.sgd(0.3, momentum=0.9)
for name, tx in {
    "ERM": optax.chain(sam_jax.sam(0.0), sgd),
    "SAM": optax.chain(sam_jax.sam(rho), sgd),
}.items():
    print(f"{name}: test error {test_error(predict(fit(tx), test)):.1%}")


# %% [markdown]
# ## flax linen
# Nothing changes: parameters are a pytree. An `Objective` keeps predictions and
# per-example losses apart; some variants need it: `sum_max` on its fast path, and
# the ablations `sam_direction` and `sam_derivative`. Here every example climbs alone.


# %%
class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10)(linen.relu(linen.Dense(128)(x)))


net = Net()
objective = sam_jax.Objective(
    predict=lambda params, batch: net.apply(params, batch["x"]),
    loss=lambda logits, batch: sam_jax.losses.cross_entropy(logits, batch["y"]),
)
tx = optax.chain(sam_jax.sum_max(rho / 5, m=1), sgd)


@jax.jit
def linen_step(params, state, batch):
    grads = jax.grad(objective.value)(params, batch)
    updates, state = tx.update(grads, state, params, objective=objective, batch=batch)
    return optax.apply_updates(params, updates), state


params = net.init(jax.random.key(0), train["x"][:1])
state = tx.init(params)
batches = sam_jax.data.epoch_batches(0, 0, len(noisy), 64)
for indices in batches[: max(steps // 15, 1)]:
    batch = jax.tree.map(lambda leaf, i=indices: leaf[i], train)
    params, state = linen_step(params, state, batch)
print(f"one epoch of 1-SAM: test error {test_error(net.apply(params, test['x'])):.1%}")


# %% [markdown]
# ## flax nnx
# `nnx.Optimizer.update` hands keyword arguments on to the chain. (linen's
# `TrainState.apply_gradients` drops them: call `tx.update` yourself there.)


# %%
class Classifier(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 128, rngs=rngs)
        self.out = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


model = Classifier(nnx.Rngs(0))
graph, _ = nnx.split(model, nnx.Param)
optimizer = nnx.Optimizer(model, optax.chain(sam_jax.sam(rho), sgd), wrt=nnx.Param)


def nnx_loss(params, batch):
    logits = nnx.merge(graph, params)(batch["x"])
    return sam_jax.losses.cross_entropy(logits, batch["y"]).mean()


@nnx.jit
def nnx_step(model, optimizer, batch):
    grads = jax.grad(nnx_loss)(nnx.state(model, nnx.Param), batch)
    optimizer.update(model, grads, grad_fn=jax.grad(nnx_loss), batch=batch)


for _ in range(steps):
    nnx_step(model, optimizer, train)
print(f"SAM with nnx: test error {test_error(model(test['x'])):.1%}")
