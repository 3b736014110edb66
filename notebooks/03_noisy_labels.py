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
# # 3. Noisy labels, and why SAM helps
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sam-jax/sam_jax/blob/main/notebooks/03_noisy_labels.ipynb)
#
# A network trained on wrong labels first learns the classes and then the mistakes.
# SAM slows the second part. This notebook follows the argument of "Understanding
# Sharpness-Aware Minimization" (Sec. 4) in four steps: what is learned early, what a
# perturbation does to the weight of an example, what that does to a linear
# classifier, and how the gradients of a network look in the meantime.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("google.colab"):
    source = "sam_jax[train] @ git+https://github.com/sam-jax/sam_jax"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
epochs = 60
iterations = 5000

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from IPython.display import Image, display

import sam_jax
from sam_jax import plotting
from sam_jax.sharpness import alignment
from sam_jax.toys import descent, gaussians, linear

# %% [markdown]
# ## 1. Clean examples come first
# Fifty points of two Gaussians, 22 of them with the wrong label, and gradient descent
# on the logistic loss. The margin of a point is its label times the output. Two steps
# are enough to give every rightly labelled point a larger margin than every wrongly
# labelled one; in the end all are fitted, and nothing in the margins tells them
# apart. (Toys compute in float64.)

# %%
with jax.enable_x64(True):
    data_key, start_key = jax.random.split(jax.random.key(0))
    problem = gaussians.sample(data_key, flips=22)
    times = np.array([0, 2, iterations])
    margins = descent.descend(
        descent.full_batch(linear.objective(), problem.examples, rho=0.0),
        gaussians.start(start_key),
        step_size=2.0,
        times=times,
        observe=lambda w: linear.margins(w, problem.examples),
    )
    wrong = np.asarray(problem.flipped)
    areas = [float(linear.area_under_curve(m, ~problem.flipped)) for m in margins]

figure, axes = plotting.panels(1, 3, width=3.2, height=2.4)
for panel, t, margin, area in zip(axes, times, np.asarray(margins), areas, strict=True):
    panel.hist(margin[~wrong], bins=15, alpha=0.6, label="right label")
    panel.hist(margin[wrong], bins=15, alpha=0.6, label="wrong label")
    panel.set(xlabel="margin", title=f"after {t} steps: AUC {area:.2f}")
axes[0].legend(frameon=False)
display(Image(plotting.png(figure)))

# %% [markdown]
# ## 2. A perturbation moves weight to the clean examples
# For a linear classifier the worst perturbation of length $\rho$ for one example
# lowers its margin by $\rho \|x_i\|$, and does nothing else: the example keeps its
# direction and gets another derivative of the loss. By how much the derivative grows
# depends on the margin. With cross-entropy and an offset $c$ most is gained at the
# margin $c/2$, by $\tanh(c/4)$: by points that are fitted just so, which early in
# training are the clean ones. The generalised cross-entropy even loses weight at
# negative margins.

# %%
c = 2.0
margin = jnp.linspace(-8, 8, 401)
figure, axes = plotting.panels(1, 2, width=4.0, height=2.6)
losses = {
    "cross-entropy": linear.cross_entropy,
    "generalised": linear.generalized_cross_entropy,
}
for (name, loss), color in zip(losses.items(), plotting.COLORS, strict=False):
    change = linear.derivative_change(loss, margin, c)
    axes[0].plot(margin, loss(margin), color=color, label=name)
    axes[1].plot(margin, change, color=color, label=name)
    at = float(margin[jnp.argmin(change)])
    print(f"{name}: derivative grows most, by {-change.min():.3f}, at margin {at:.2f}")
axes[0].set(xlabel="margin", ylabel="loss", ylim=(0, 4))
axes[1].set(xlabel="margin", ylabel=f"change of the derivative, c = {c:g}")
axes[0].legend(frameon=False)
display(Image(plotting.png(figure)))

# %% [markdown]
# ## 3. For a linear classifier that is enough
# SumMax SAM gives every example its own perturbation. Ten seeds, 22 wrong labels of
# 50, the exact test error: SAM passes through a perfect classifier, as ERM nearly
# does, and stays near it. Only the derivative of the loss can have done this, since a
# linear classifier has no other part that depends on the weights.


# %%
def errors(key, rho):
    data_key, start_key = jax.random.split(key)
    problem = gaussians.sample(data_key, flips=22)
    return descent.descend(
        descent.full_batch(linear.sum_max_objective(rho), problem.examples, rho=0.0),
        gaussians.start(start_key),
        step_size=2.0,
        times=jnp.arange(51),
        observe=lambda w: gaussians.exact_error(w, problem.mu),
    )


with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 10)
    runs = {
        label: np.asarray(jax.vmap(lambda k, r=rho: errors(k, r))(keys))
        for label, rho in {"ERM": 0.0, "SAM": 5.0}.items()
    }
figure, (panel,) = plotting.panels(width=4.4, height=2.8)
for (label, run), color in zip(runs.items(), plotting.COLORS, strict=False):
    plotting.band(panel, np.arange(51), 100 * run, label=label, color=color)
    best, last = 100 * run.min(1).mean(), 100 * run[:, -1].mean()
    print(f"{label}: test error at best {best:.1f} %, at last {last:.1f} %")
panel.set(xlabel="iteration", ylabel="test error (%)")
panel.legend(frameon=False)
display(Image(plotting.png(figure)))

# %% [markdown]
# ## 4. In a network
# A small MLP on the digits, 60% of whose training labels are random. At every epoch
# we also ask how the gradient of a batch, at the weights and at SAM's point, aligns
# with the gradient of the noisy examples alone: `sam_jax.sharpness.alignment`.

# %%
digits = sam_jax.data.load("digits")
noisy, _ = sam_jax.data.add_label_noise(0, digits.train_labels, 0.6, 10)
module = sam_jax.models.create("mlp", num_classes=10, widths=(128, 128))


def batch_of(images, labels):
    images = sam_jax.data.normalize(images, digits.mean, digits.std)
    return {"images": images, "labels": jnp.asarray(labels)}


train = batch_of(digits.train_images, noisy)
test = batch_of(digits.test_images, digits.test_labels)
true = jnp.asarray(digits.train_labels)
objective = sam_jax.Objective(
    predict=lambda params, batch: module.apply(
        {"params": params}, batch["images"], train=True
    ),
    loss=lambda logits, batch: sam_jax.losses.cross_entropy(logits, batch["labels"]),
)


@jax.jit
def test_error(params):
    logits = objective.predict(params, test)
    return sam_jax.metrics.errors(logits, test["labels"]).mean()


@jax.jit
def cosines(params):
    return alignment(objective, params, train, true, 0.1)


def fit(transform):
    """Test error and cosines with the noisy part after every epoch."""
    tx = optax.chain(transform, optax.sgd(0.05, momentum=0.9))
    params = module.init(jax.random.key(0), train["images"][:1], train=False)["params"]
    state = tx.init(params)

    @jax.jit
    def step(params, state, batch):
        grads = jax.grad(objective.value)(params, batch)
        updates, state = tx.update(
            grads, state, params, objective=objective, batch=batch
        )
        return optax.apply_updates(params, updates), state

    seen = []
    for epoch in range(epochs):
        for chosen in sam_jax.data.epoch_batches(0, epoch, len(noisy), 64):
            batch = jax.tree.map(lambda x, at=chosen: x[at], train)
            params, state = step(params, state, batch)
        seen.append([float(test_error(params)), *map(float, cosines(params).noisy)])
    return np.array(seen)


fits = {"ERM": fit(optax.identity()), "SAM, m = 1": fit(sam_jax.sum_max(rho=0.05))}

# %% [markdown]
# Left: ERM is good early and then learns the mistakes. SAM gets further down before it
# begins to, and takes longer; in the end it fits them too, and the epoch has to be
# chosen. Right, along ERM's own path: at SAM's point the gradient points less towards
# fitting the noisy labels, once the network has begun to fit them.

# %%
figure, (left, right) = plotting.panels(1, 2, width=4.2, height=2.8)
x = np.arange(1, epochs + 1)
for (label, seen), color in zip(fits.items(), plotting.COLORS, strict=False):
    left.plot(x, 100 * seen[:, 0], color=color, label=label)
    best, last = 100 * seen[:, 0].min(), 100 * seen[-1, 0]
    print(f"{label}: least test error {best:.1f} %, last {last:.1f} %")
for i, where in enumerate(("at w", "at SAM's point")):
    right.plot(x, fits["ERM"][:, 1 + i], color=plotting.COLORS[i], label=where)
left.set(xlabel="epoch", ylabel="test error (%)", ylim=(0, None))
right.set(xlabel="epoch of ERM", ylabel="cosine with the noisy part")
for panel in (left, right):
    panel.legend(frameon=False)
display(Image(plotting.png(figure)))

# %% [markdown]
# ## What to keep
# - SAM helps before the noise is fitted: choose the epoch by a validation set, which
#   may be as noisy as the training set.
# - A robust loss reweights in the same direction, and joins with SAM:
#   `sam_jax.losses.generalized_cross_entropy`.
# - The paper finds that the derivative of the loss does the work, in a ResNet on two
#   classes. On Fashion-MNIST the direction of the gradient does more: it cannot be told
#   from SAM, and is better than the derivative alone (experiments `table1` and
#   `table1_rule`).
