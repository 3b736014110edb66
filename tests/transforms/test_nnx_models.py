"""An nnx model with BatchNorm and dropout, and random keys that groups would share."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import sam_jax
from tests.transforms.problems import BATCH, assert_same


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(4, 6, rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(jnp.tanh(self.norm(self.hidden(x)))))


def make():
    """The model in float64."""
    model = Net(nnx.Rngs(0, dropout=1))
    floats = nnx.as_pure(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    nnx.update(model, jax.tree.map(lambda x: x.astype(jnp.float64), floats))
    return model


def loss(model, batch):
    losses = optax.softmax_cross_entropy_with_integer_labels(
        model(batch["x"]), batch["y"]
    )
    return losses.mean()


def step(rho, *, late=False):
    """The model before and after a step, and the gradient of the pass at w."""
    model = make()
    optimizer = nnx.Optimizer(
        model, optax.chain(sam_jax.sam(rho), optax.sgd(1.0)), wrt=nnx.Param
    )

    @nnx.jit
    def train_step(model, optimizer, batch):
        grad_fn = sam_jax.nnx_grad_fn(model, loss)
        value, grads = nnx.value_and_grad(loss)(model, batch)
        if late:
            grad_fn = sam_jax.nnx_grad_fn(model, loss)
        optimizer.update(model, grads, grad_fn=grad_fn, batch=batch)
        return value, grads

    value, grads = train_step(model, optimizer, BATCH)
    return model, value, grads


def by_hand(rho):
    """The same with all variables as arrays, from one and the same start."""
    graph, params, rest = nnx.split(make(), nnx.Param, ...)
    params, rest = nnx.as_pure(params), nnx.as_pure(rest)

    @jax.jit
    def gradient(params):
        def value(params):
            model = nnx.merge(graph, params, rest)
            return loss(model, BATCH), nnx.as_pure(nnx.split(model, nnx.Param, ...)[2])

        return jax.grad(value, has_aux=True)(params)

    first, statistics = gradient(params)
    delta = jax.tree.map(lambda g: rho * g / optax.tree.norm(first), first)
    second, _ = gradient(jax.tree.map(jnp.add, params, delta))
    return jax.tree.map(jnp.subtract, params, second), statistics, first


@pytest.mark.parametrize("rho", [1e-9, 0.3])
def test_a_step_draws_one_mask_and_keeps_the_statistics_of_the_pass_at_w(rho):
    """At rho -> 0 the step is that of the plain gradient, of the order of rho."""
    model, _, grads = step(rho)
    params, statistics, first = by_hand(rho)
    _, received, rest = nnx.split(model, nnx.Param, ...)
    assert_same(nnx.as_pure(received), params, 1e-9, 1e-12)
    rest = nnx.as_pure(rest)
    assert_same(rest["norm"], statistics["norm"], 1e-12)
    assert rest["dropout"]["rngs"]["count"] == statistics["dropout"]["rngs"]["count"]
    if rho < 1e-6:
        plain = jax.tree.map(
            jnp.subtract, nnx.as_pure(nnx.state(make(), nnx.Param)), first
        )
        assert_same(nnx.as_pure(received), plain, atol=1e-7)
        assert_same(nnx.as_pure(grads), first)


def test_behind_the_pass_at_w_it_would_draw_other_masks_and_says_so():
    with pytest.raises(ValueError, match=r"not been called since.*Call it first"):
        step(0.3, late=True)


def test_groups_reseed_by_a_key_for_every_example():
    """Against a loop over examples, each with its own key."""
    model = make()
    model.norm.use_running_average = True  # no statistics of single examples
    keys = jax.random.split(jax.random.key(1), len(BATCH["y"]))
    batch = {**BATCH, "key": keys}

    def reseeded(model, batch):
        nnx.reseed(model, dropout=batch["key"][0])
        return loss(model, batch)

    params = nnx.as_pure(nnx.state(model, nnx.Param))
    grad_fn = sam_jax.nnx_grad_fn(model, reseeded)
    reseeded(model, batch)  # the pass at w
    tx = sam_jax.sum_max(1e-9)
    update = functools.partial(tx.update, grad_fn=grad_fn, batch=batch)
    received, _ = jax.jit(update)(params, tx.init(params), params)
    parts = [
        grad_fn(params, jax.tree.map(lambda x, i=i: x[i : i + 1], batch))
        for i in range(len(keys))
    ]
    expected = jax.tree.map(lambda *g: sum(g) / len(g), *parts)
    assert_same(received, expected, atol=1e-7)
    shared = sam_jax.nnx_grad_fn(model, loss)
    model(BATCH["x"])
    with pytest.raises(ValueError, match="one dropout mask for all"):
        tx.update(params, tx.init(params), params, grad_fn=shared, batch=BATCH)


KEY = jax.random.key(0)
W = jnp.ones(4)


def drawing(key_of, draw):
    def value(w, batch):
        return jnp.sum(batch["x"] @ w * draw(key_of(batch)))

    return value


def bernoulli(key):
    return jax.random.bernoulli(key, 0.5)


def scanned(key):
    keys = jax.random.split(key, 2)
    return jax.lax.scan(lambda c, k: (c + jax.random.normal(k), None), 0.0, keys)[0]


def branched(key):
    return jax.lax.cond(True, bernoulli, lambda _: False, key)


def oracles(value):
    return [jax.grad(value), sam_jax.Objective(lambda w, b: value(w, b)[None], _first)]


def _first(outputs, batch):
    return jnp.broadcast_to(outputs, (len(batch["y"]),))


@pytest.mark.parametrize("draw", [bernoulli, scanned, branched, jax.jit(bernoulli)])
@pytest.mark.parametrize("opaque", [True, False])
def test_a_key_that_groups_share_is_refused(draw, opaque):
    def update(key_of):
        grad_fn, objective = oracles(drawing(key_of, draw))
        given = {"grad_fn": grad_fn} if opaque else {"objective": objective}
        tx = sam_jax.sum_max(0.1, m=2)
        batch = {**BATCH, "key": jax.random.split(KEY, 8)}
        jax.eval_shape(
            functools.partial(tx.update, **given), W, tx.init(W), W, batch=batch
        )

    with pytest.raises(ValueError, match="key that it has closed over"):
        update(lambda batch: KEY)
    with pytest.raises(ValueError, match="key that it has closed over"):
        update(lambda batch: jax.random.fold_in(KEY, 3))
    update(lambda batch: batch["key"][0])
    update(lambda batch: jax.random.fold_in(KEY, batch["y"][0]))
    update(lambda batch: jax.random.key(0))  # a constant, such as a fixed projection
