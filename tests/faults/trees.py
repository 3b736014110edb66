"""Random trees of parameters through the transforms, against formulas in NumPy.

The loss is c/2 sum a w^2, elementwise over the tree, with c the mean of the batch, so
that the gradient at any point is c a w. Numbers are of all sizes: gradients whose
squares over- or underflow in float32, zeros, scalars, empty arrays, integers beside.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sam_jax
from tests.faults.outcome import Outcome

Tree = Any
Leaves = list[np.ndarray]
# Of a step on bfloat16 weights: unit in the last place, twice.
TOLERANCE = {"bfloat16": 2**-6, "float32": 3e-5, "float64": 1e-10}


def norm(leaves: Leaves) -> float:
    """The norm over all leaves, of numbers of any size."""
    largest = max((np.abs(x).max() for x in leaves if x.size), default=0.0)
    if largest == 0:
        return 0.0
    return largest * np.sqrt(sum(np.sum((x / largest) ** 2) for x in leaves))


def unit(leaves: Leaves) -> Leaves:
    """Divided by the norm; zeros for zeros."""
    length = norm(leaves)
    return [x / length if length else 0 * x for x in leaves]


def _gap(g: Leaves, gp: Leaves) -> Leaves:
    """GSAM's g_p - alpha (g less its part along g_p)."""
    along = unit(gp)
    inner = sum(np.sum(a * b) for a, b in zip(g, along, strict=True))
    return [p - 0.4 * (x - inner * u) for p, x, u in zip(gp, g, along, strict=True)]


def expected(name: str, w: Leaves, a: Leaves, c: float, rho: float) -> Leaves:
    """The gradient that a variant hands on."""

    def slope(at: Leaves) -> Leaves:
        return [c * x * y for x, y in zip(a, at, strict=True)]

    g = slope(w)
    size = [np.abs(x) + 0.01 for x in w]
    steps = {
        "unnormalised": [rho * x for x in g],
        "asam": [
            rho * t * x
            for t, x in zip(
                size, unit([t * x for t, x in zip(size, g, strict=True)]), strict=True
            )
        ],
        "layerwise_sam": [
            rho * norm([x]) * unit([y])[0] for x, y in zip(w, g, strict=True)
        ],
    }
    step = steps.get(name, [rho * x for x in unit(g)])
    gp = slope([x + e for x, e in zip(w, step, strict=True)])
    if name == "gsam":
        return _gap(g, gp)
    if name == "stable_sam":
        return [norm(g) * x for x in unit(gp)]
    return gp


TRANSFORMS = {
    "sam": sam_jax.sam,
    "unnormalised": lambda rho: sam_jax.sam(rho, normalize=False),
    "sum_max, m = n": lambda rho: sam_jax.sum_max(rho, m=4),
    "max_sum": sam_jax.max_sum,
    "asam": sam_jax.asam,
    "layerwise_sam": sam_jax.layerwise_sam,
    "gsam": sam_jax.gsam,
    "stable_sam": sam_jax.stable_sam,
}


def random_tree(random: np.random.Generator) -> tuple[Tree, Tree]:
    """Parameters, and the a of the loss for each; nested two deep."""
    dtype = random.choice(list(TOLERANCE))
    scale = 10.0 ** random.choice([-25, -8, 0, 0, 0, 8, 18])

    def leaf() -> jax.Array:
        shape = [(), (1,), (3,), (0,), (2, 3), (4, 1, 2)][random.integers(6)]
        values = random.normal(size=shape) * scale * (random.random() > 0.1)
        return jnp.asarray(values, dtype)

    names = "abc"[: random.integers(1, 4)]
    tree = {
        name: leaf() if random.random() < 0.6 else (leaf(), {"d": leaf()}, None)
        for name in names
    }
    weights = jax.tree.map(
        lambda x: jnp.asarray(random.uniform(0.5, 2, x.shape), x.dtype), tree
    )
    if random.random() < 0.3:
        tree["count"], weights["count"] = jnp.array(5), jnp.array(0)
    return tree, weights


def _wide(tree: Tree) -> Leaves:
    leaves = jax.tree.leaves(tree)
    return [np.asarray(x, np.float64) for x in leaves if x.dtype != jnp.array(5).dtype]


def transforms(seed: int, tries: int) -> Outcome:
    """Each transform on each tree."""
    random, lost, worst = np.random.default_rng(seed), [], 0.0
    batch = jnp.array([0.5, 1.5, 2.0, 0.25])
    for number in range(tries):
        params, a = random_tree(random)

        def grad_fn(w: Tree, x: jax.Array, a: Tree = a) -> Tree:
            return jax.tree.map(
                lambda w, s: (jnp.mean(x) * s * w).astype(w.dtype), w, a
            )

        rho, grads = float(random.choice([0.0, 0.05, 3.0])), grad_fn(params, batch)
        for name, make in TRANSFORMS.items():
            tx = make(rho)
            received, _ = tx.update(
                grads, tx.init(params), params, grad_fn=grad_fn, batch=batch,
                **({"ascent_batch": batch} if name == "max_sum" else {}),
            )  # fmt: skip
            correct = expected(name, _wide(params), _wide(a), 1.0625, rho)
            error = _error(received, correct, params)
            worst = max(worst, error)
            if not error <= 1 or _dtypes(received) != _dtypes(params):
                lost.append(f"tree {number}, {name}, rho {rho}: {error:.1e} of allowed")
    return Outcome("a random tree", tries, lost, f"worst error {worst:.2f} of allowed")


def _dtypes(tree: Tree) -> list:
    return [x.dtype for x in jax.tree.leaves(tree)]


def _error(received: Tree, correct: Leaves, params: Tree) -> float:
    """The largest error, as a share of what rounding explains."""
    dtypes = [str(d) for d in _dtypes(params) if str(d) in TOLERANCE]
    scale = max((np.abs(x).max() for x in correct if x.size), default=0.0)
    errors = [
        np.abs(x - y).max() / (TOLERANCE[d] * scale)
        for x, y, d in zip(_wide(received), correct, dtypes, strict=True)
        if x.size and scale
    ]
    return float(max(errors, default=0.0))


def implicit(seed: int, tries: int) -> Outcome:
    """Per-example SAM of l_i = f_i^2 / 2 with f_i = x_i sum a w^2 / 2, m = 1."""
    random, lost = np.random.default_rng(seed), []
    for number in range(tries):
        shapes = [(3,), (2, 2), ()][: random.integers(1, 4)]
        params = [jnp.asarray(random.normal(size=s), jnp.float32) for s in shapes]
        size = 10.0 ** random.choice([-12, 0, 0, 12])  # of g_i: its square
        x = jnp.asarray(np.array([0.5, -1.5, 2.0]) * size, jnp.float32)
        objective = sam_jax.Objective(
            lambda w, batch: batch * sum(jnp.sum(v**2) for v in w) / 2,
            lambda outputs, batch: outputs**2 / 2,
        )
        _, received = sam_jax.implicit_gradient(objective, params, x, rho=0.3, m=1)
        w, total = _wide(params), [np.zeros(s) for s in shapes]
        for each in map(float, x):

            def slope(at: Leaves, each: float = each) -> Leaves:
                value = each * sum(np.sum(v**2) for v in at) / 2
                return [value * each * v for v in at]

            moved = [v + 0.3 * u for v, u in zip(w, unit(slope(w)), strict=True)]
            total = [t + g / 3 for t, g in zip(total, slope(moved), strict=True)]
        error = _error(received, total, params)
        if not error <= 1:
            lost.append(f"tree {number}: {error:.1e} of allowed")
    return Outcome("a random tree, m = 1", tries, lost)
