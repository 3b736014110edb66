"""Steps on quadratics whose minimum is another one in every batch, here and in NumPy.

L_t(w) = (w - c_t)^T A (w - c_t) / 2 + cubic * sum w^3 / 3, so that the gradient at
any point is known.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

RATE, STEPS, SIZE = 0.1, 5, 7
RANDOM = np.random.default_rng(0)
ROOT = RANDOM.normal(size=(SIZE, SIZE))
A = ROOT @ ROOT.T / SIZE + np.diag(np.linspace(0.2, 2.0, SIZE))
START = RANDOM.normal(size=SIZE)
CENTRES = RANDOM.normal(size=(STEPS, SIZE))


def tree(flat):
    """A vector as parameters: a matrix and a vector."""
    return {"a": jnp.reshape(flat[:4], (2, 2)), "b": flat[4:]}


def flat(params):
    return jnp.concatenate([params["a"].ravel(), params["b"]])


def slope(w, centre, cubic):
    return A @ (w - centre) + cubic * w**2


def unit(v):
    return v / np.linalg.norm(v)


def received(tx, cubic=0.0):
    """The weights after every step of gradient descent with this transform."""
    chain = optax.chain(tx, optax.sgd(RATE))

    def grad_fn(params, batch):
        return tree(slope(flat(params), batch[0], cubic))

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
        return jax.lax.scan(step, (params, chain.init(params)), CENTRES)[1]

    return np.asarray(run(START))


def expected(rule, cubic=0.0):
    """The same in NumPy.

    Args:
      rule: (gradient_at, w, memory) -> (gradient to descend, memory); memory is None
        at first.
    """
    w, memory, weights = START.copy(), None, []
    for centre in CENTRES:
        descended, memory = rule(
            functools.partial(slope, centre=centre, cubic=cubic), w, memory
        )
        w = w - RATE * descended
        weights.append(w)
    return np.array(weights)


def check(tx, rule, cubic=0.0):
    """Asserts that a transform takes the steps of a rule in NumPy, other than SGD's."""
    ours = received(tx, cubic)
    np.testing.assert_allclose(ours, expected(rule, cubic), rtol=1e-10)
    plain = expected(lambda at, w, memory: (at(w), memory), cubic)
    assert np.abs(ours[-1] - plain[-1]).max() > 1e-3
