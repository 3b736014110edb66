"""The discrete methods of Fig. 1 and 9: (S)GD, MaxSum and SumMax, as one compiled loop.

    w_{t+1} = w_t - gamma g_t(w_t) - decay w_t

where g_t is the core's gradient of one kind (see `fields`) on all examples or on a
minibatch, with or without normalised perturbations and label noise.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from sam_jax import checks
from sam_jax.core import ascent
from sam_jax.core import gradient as core
from sam_jax.flows import fields, inputs, networks
from sam_jax.toys import descent


@dataclasses.dataclass(frozen=True)
class Method:
    """What is iterated; everything that decides what is compiled.

    Args:
      kind: "erm", "max_sum" or "sum_max".
      m: examples that share a perturbation, for sum_max.
      parametrization: "squares" or "product".
      batch_size: examples of a minibatch, drawn uniformly with replacement; None for
        all examples, the deterministic method. max_sum goes on to ascend on all
        examples (J_t of Eq. 19): on a minibatch of one it would be sum_max.
      normalize: scale perturbations to length rho.
      swap: None, "direction" or "derivative", see
        `core.gradient.sharpness_aware_gradient`.
    """

    kind: str = "erm"
    m: int = 1
    parametrization: str = "squares"
    batch_size: int | None = None
    normalize: bool = False
    swap: str | None = None

    def group_size(self, n: int) -> int:
        """Examples that share a perturbation, of n. Raises: ValueError for misfits."""
        if self.batch_size is not None and self.kind != "max_sum":
            n = checks.integer("batch_size", self.batch_size, 1)
        return fields.group_size(self.kind, self.m, n)

    def perturbs_each(self, n: int) -> bool:
        """Whether a step forms several perturbed weights, on all n examples."""
        return self.batch_size is None and self.group_size(n) < n


class Iterates(NamedTuple):
    """Iterates at chosen times, or with leading batch axes those of many problems.

    times: iterations. params: weights (w_+, w_-) or (u, v). betas: linear predictors.
    losses: mean losses on all examples, without label noise.
    finite: whether the iteration stayed finite.
    """

    times: Int[Array, " times"]
    params: networks.Params
    betas: Float[Array, "*batch times d"]
    losses: Float[Array, "*batch times"]
    finite: Bool[Array, "*batch"]


def log_times(iterations: int, per_decade: int = 20) -> Int[np.ndarray, " times"]:
    """0, 1, 2, ... iterations, evenly spaced in the logarithm."""
    count = int(np.ceil(per_decade * np.log10(max(iterations, 2)))) + 1
    spaced = np.rint(np.geomspace(1, iterations, count)).astype(int)
    return np.unique(np.concatenate([[0], spaced]))


def iterate(
    x: ArrayLike,
    y: ArrayLike,
    method: Method,
    *,
    times: ArrayLike,
    alpha: ArrayLike | None = None,
    start: inputs.Start | None = None,
    step_size: ArrayLike,
    rho: ArrayLike = 0.0,
    label_noise: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
    indices: ArrayLike | None = None,
    seed: int = 0,
    throw: bool = True,
) -> Iterates:
    """Runs a method on a problem, or on a batch of them at once.

    x, y and the numbers may have batch axes that broadcast. Other values compile
    nothing anew, another number of iterations included.

    Args:
      x: inputs [..., n, d]. y: targets [..., n].
      times: iterations to record, increasing; see `log_times`.
      alpha: scale of the start, w_+ = w_- = alpha, or u = alpha, v = 0; > 0.
      start: in place of alpha, (w_+, w_-) or of the product (u, v), numbers of every
        feature [..., d], with batch axes that broadcast to those of the rest.
      step_size: gamma. rho: ascent step, or length of the perturbation if normalised.
      label_noise: standard deviation of normal noise on every target, drawn anew at
        every iteration.
      weight_decay: share of the weights taken off at every iteration.
      indices: [iterations, batch_size], the examples of every minibatch, in place of
        random ones.
      seed: of minibatches and label noise.
      throw: raise if an iteration leaves the finite numbers.

    Raises: ValueError for unsuitable arguments (see `inputs.problems`; data without an
      interpolator are allowed here), and with `throw` for a method that diverges:
      which problem, and when.
    """
    network = networks.create(method.parametrization)
    inputs.one_start(alpha, start)
    given = inputs.problems(
        x,
        y,
        interpolated=False,
        alpha=alpha,
        step_size=step_size,
        rho=rho,
        label_noise=label_noise,
        weight_decay=weight_decay,
    )
    method.group_size(given.x.shape[1])
    times = jnp.asarray(times)
    if indices is not None:
        indices = jnp.asarray(indices)
        if indices.ndim != 2 or indices.shape[1] != method.batch_size:
            raise ValueError(
                f"Received indices of shape {indices.shape} for batch_size="
                f"{method.batch_size}; give [iterations, batch_size]."
            )
    noisy = not inputs.known(given.scalars["label_noise"]) or bool(
        jnp.any(given.scalars["label_noise"] > 0)
    )
    keys = jax.random.split(jax.random.key(seed), len(given.y))
    begin = (
        network.start(given.scalars["alpha"], given.x.shape[-1])
        if start is None
        else network.layers(*(inputs.features(given, "start", s) for s in start))
    )
    params = _iterate(
        given.x,
        given.y,
        begin,
        given.scalars,
        keys,
        times,
        indices,
        method=method,
        noisy=noisy,
    )
    betas = jax.vmap(jax.vmap(network.beta))(params)
    residuals = jnp.einsum("bnd,btd->btn", given.x, betas) - given.y[:, None]
    losses = network.weight * jnp.mean(residuals**2, -1)
    finite = jnp.all(jnp.isfinite(losses), -1)
    if throw and inputs.known(finite):
        _refuse_divergence(times, losses, finite, given)
    batched = jax.tree.map(
        lambda a: a.reshape(*given.shape, *a.shape[1:]), (params, betas, losses, finite)
    )
    return Iterates(times, *batched)


@functools.partial(jax.jit, static_argnames=("method", "noisy"))
def _iterate(
    x, y, begin, scalars, keys, times, indices, *, method: Method, noisy: bool
):
    network = networks.create(method.parametrization)

    def one(x, y, begin, numbers, key):
        def gradient(params, t):
            targets = y
            if noisy:
                noise_key = jax.random.fold_in(jax.random.fold_in(key, 1), t)
                targets += numbers["label_noise"] * jax.random.normal(
                    noise_key, y.shape
                )
            examples = networks.Examples(x, targets)
            picked = _minibatch(examples, method.batch_size, indices, key, t)
            slope = _gradient(method, network, params, picked, examples, numbers["rho"])
            decay = numbers["weight_decay"] / numbers["step_size"]
            return jax.tree.map(lambda g, w: g + decay * w, slope, params)

        return descent.descend(
            gradient,
            begin,
            step_size=numbers["step_size"],
            times=times,
        )

    problems = (x, y, begin, scalars, keys)
    if jax.default_backend() == "cpu" and method.perturbs_each(x.shape[1]):
        # The perturbed weights of one problem fit the fastest cache, those of all do
        # not: one after the other is more than twice as fast as side by side.
        return jax.lax.map(lambda problem: one(*problem), problems)
    return jax.vmap(one)(*problems)


def _minibatch(
    examples: networks.Examples,
    size: int | None,
    indices: Int[Array, "iterations size"] | None,
    key: Array,
    t: Int[Array, ""],
) -> networks.Examples:
    if size is None:
        return examples
    if indices is not None:
        picked = indices[t]
    else:
        number = len(examples.y)
        draw_key = jax.random.fold_in(jax.random.fold_in(key, 0), t)
        picked = jax.random.randint(draw_key, (size,), 0, number)
    return jax.tree.map(lambda a: a[picked], examples)


def _gradient(
    method: Method,
    network: networks.Network,
    params: networks.Params,
    picked: networks.Examples,
    examples: networks.Examples,
    rho: Float[Array, ""],
) -> networks.Params:
    """g_t: the gradient of the method on the examples picked for this iteration."""
    if method.kind == "erm":
        return core.loss_gradient(network.objective, params, picked).gradient
    m = method.group_size(len(examples.y))
    rule = ascent.plain(method.normalize)
    apart = method.kind == "max_sum" and method.batch_size is not None
    return fields.gradient(
        network,
        params,
        picked,
        rho=rho,
        m=None if apart else m,
        rule=rule,
        swap=method.swap,
        ascent_batch=examples if apart else None,
    ).gradient


def _refuse_divergence(
    times: Int[Array, " times"],
    losses: Float[Array, "problems times"],
    finite: Bool[Array, " problems"],
    given: inputs.Problems,
) -> None:
    failed = np.flatnonzero(~np.asarray(finite))
    if not failed.size:
        return
    i = int(failed[0])
    first = int(np.argmin(np.isfinite(losses[i])))
    since = int(times[first - 1]) if first else 0
    raise ValueError(
        f"{failed.size} of {len(finite)} iterations diverged. "
        f"{given.describe(i)} left the finite numbers between iterations {since} "
        f"and {int(times[first])}: give a smaller step_size or rho, for instance 1 / "
        "smoothness(x, beta). throw=False returns what there is."
    )
