"""A flax nnx model with BatchNorm and dropout, in an ordinary nnx training step.

The two passes of a step draw the same dropout masks, and the running statistics are
those of the pass at w.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sam_jax


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def loss(model, batch):
    logits = model(batch["x"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    return losses.mean()


@nnx.jit
def train_step(model, optimizer, batch):
    grad_fn = sam_jax.nnx_grad_fn(model, loss)  # before the pass at w  # SAM
    value, grads = nnx.value_and_grad(loss)(model, batch)
    optimizer.update(model, grads, grad_fn=grad_fn, batch=batch)  # SAM
    return value


def main(steps: int = 300) -> dict[str, float]:
    digits = sam_jax.data.load("digits")
    x = jnp.asarray(digits.train_images.reshape(-1, 64) / 16, jnp.float32)
    y = jnp.asarray(digits.train_labels)
    model = Net(nnx.Rngs(0, dropout=1))
    tx = optax.chain(
        sam_jax.sam(rho=0.05),  # SAM
        optax.sgd(0.1, momentum=0.9),
    )
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    random = np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(0, len(x), 64)
        value = train_step(model, optimizer, {"x": x[rows], "y": y[rows]})
    model.eval()
    test = jnp.asarray(digits.test_images.reshape(-1, 64) / 16, jnp.float32)
    wrong = model(test).argmax(-1) != jnp.asarray(digits.test_labels)
    return {"loss": float(value), "test_error": float(wrong.mean())}


if __name__ == "__main__":
    print(main())
