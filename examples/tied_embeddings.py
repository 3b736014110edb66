"""A nested dictionary of weights, as Hugging Face's Flax models hold them.

A model of that kind is called as model(ids, params, dropout_rng=key, train=True);
here a small one stands in for it, whose embeddings are read twice: to look tokens up,
and as the output layer. Padding is masked out of the loss of a sequence.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_jax

VOCABULARY, LENGTH, WIDTH = 32, 12, 16


def init(key):
    keys = jax.random.split(key, 3)
    dense = jax.nn.initializers.lecun_normal()
    return {
        "model": {
            "shared": {
                "embedding": 0.3 * jax.random.normal(keys[0], (VOCABULARY, WIDTH))
            },
            "layers": {
                "0": {
                    "mix": {"kernel": dense(keys[1], (WIDTH, WIDTH))},
                    "norm": {"scale": jnp.ones(WIDTH)},
                    "out": {"kernel": dense(keys[2], (WIDTH, WIDTH))},
                }
            },
        }
    }


def model(ids, params, dropout_rng=None, train=False):
    """Logits of the next token: an average of all tokens so far, and a dense layer."""
    embedding = params["model"]["shared"]["embedding"]
    x = embedding[ids]
    for layer in params["model"]["layers"].values():
        h = x * layer["norm"]["scale"]
        past = jnp.cumsum(h, 1) / jnp.arange(1, ids.shape[1] + 1)[:, None]
        h = jax.nn.gelu(past @ layer["mix"]["kernel"]) @ layer["out"]["kernel"]
        if train:
            h = h * jax.random.bernoulli(dropout_rng, 0.9, h.shape) / 0.9
        x = x + h
    return x @ embedding.T


def loss_fn(params, batch, rngs):
    logits = model(batch["ids"], params, dropout_rng=rngs, train=True)
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits[:, :-1], batch["ids"][:, 1:]
    )
    mask = batch["mask"][:, 1:]
    return ((losses * mask).sum(1) / mask.sum(1)).mean()


def sequences(count):
    """Every token is the one before it plus a step of the sequence's own."""
    random = np.random.default_rng(0)
    start, step = random.integers(0, VOCABULARY, (2, count, 1))
    ids = (start + step % 3 * np.arange(LENGTH)) % VOCABULARY
    mask = np.arange(LENGTH) < random.integers(4, LENGTH + 1, (count, 1))
    return {"ids": jnp.asarray(ids), "mask": jnp.asarray(mask, jnp.float32)}


def main(steps: int = 150) -> dict[str, float]:
    data, params = sequences(512), init(jax.random.key(0))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    value_and_grad = sam_jax.value_and_grad(loss_fn, rho=0.02)  # SAM

    @jax.jit
    def step(params, state, batch, key):
        loss, grads = value_and_grad(params, batch, rngs=key)  # SAM
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, random, losses = tx.init(params), np.random.default_rng(1), []
    for t in range(steps):
        rows = random.integers(0, 512, 32)
        batch = jax.tree.map(lambda x, rows=rows: x[rows], data)
        key = jax.random.fold_in(jax.random.key(1), t)
        params, state, loss = step(params, state, batch, key)
        losses.append(float(loss))
    return {"first_loss": losses[0], "loss": losses[-1]}


if __name__ == "__main__":
    print(main())
