"""Steps on quadratics whose minimum is another one in every batch, here and in NumPy.

L_t(w) = (w - c_t)^T A (w - c_t) / 2, so that the gradient at any point is known.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

A = np.array(
    [[3.0, 0.5, 0.0, 0.2], [0.5, 1.0, 0.3, 0.0], [0, 0.3, 0.5, 0], [0.2, 0, 0, 2]]
)
START = np.array([2.0, -1.0, 3.0, 0.5])
RATE, STEPS = 0.1, 5
CENTRES = np.random.default_rng(0).normal(size=(STEPS, 4))


def tree(flat):
    """A vector of four as parameters: a matrix and a vector."""
    return {"a": jnp.reshape(flat[:2], (2, 1)), "b": flat[2:]}


def flat(params):
    return jnp.concatenate([params["a"].ravel(), params["b"]])


def grad_fn(params, batch):
    return tree(jnp.asarray(A) @ (flat(params) - batch[0]))


def unit(v):
    return v / np.linalg.norm(v)


def received(tx, steps=STEPS):
    """The weights after every step of gradient descent with this transform."""
    chain = optax.chain(tx, optax.sgd(RATE))

    def step(carry, centre):
        params, state = carry
        grads = grad_fn(params, centre[None])
        updates, state = chain.update(
            grads, state, params, grad_fn=grad_fn, batch=centre[None]
        )
        params = optax.apply_updates(params, updates)
        return (params, state), flat(params)

    @jax.jit
    def run(start):
        params = tree(start)
        return jax.lax.scan(step, (params, chain.init(params)), CENTRES[:steps])[1]

    return np.asarray(run(START))


def expected(rule, steps=STEPS):
    """The same in NumPy.

    Args:
      rule: (gradient_at, w, memory) -> (gradient to descend, memory); memory is None
        at first.
    """
    w, memory, weights = START.copy(), None, []
    for centre in CENTRES[:steps]:
        descended, memory = rule(lambda v, c=centre: A @ (v - c), w, memory)
        w = w - RATE * descended
        weights.append(w)
    return np.array(weights)


def check(tx, rule, steps=STEPS):
    """Asserts that a transform takes the steps of a rule in NumPy, other than SGD's."""
    ours = received(tx, steps)
    np.testing.assert_allclose(ours, expected(rule, steps), rtol=1e-10)
    plain = expected(lambda at, w, memory: (at(w), memory), steps)
    assert np.abs(ours[-1] - plain[-1]).max() > 1e-3
