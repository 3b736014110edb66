"""Gradient flows on diagonal linear networks, solved until they interpolate (App. A).

The flow of every kind (see `fields`) ends at the minimiser of phi_alpha_effective on
{X beta = y}, where phi_alpha is the potential of Eq. 12 (see `potentials`) and

    alpha_effective = alpha exp(-rho Delta)                          (Prop. 1, 4, 5).

Delta is an integral along the flow, so it is solved for together with the weights. From
another start alpha is sqrt(w_+ w_-), feature by feature, and the potential is less
<shift, beta>, with shift = log w_+ / w_-: since log w_+- moves by -rho Delta +- z / 2,
z = X^T nu, the flow is at beta = 2 alpha_effective^2 sinh(z + shift).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from sam_jax import checks
from sam_jax.flows import dynamics, fields, inputs, networks

TIMES = np.geomspace(1e-2, 1e8, 301)


class Solution(NamedTuple):
    """A flow, or with leading batch axes many of them.

    t: times of the trajectory, log-spaced, the last ones all equal to the end.
    betas, losses: beta(t) and loss(t).
    beta, loss: at the end, the limit of the flow up to what stop_loss leaves.
    alpha_effective: alpha exp(-rho Delta) with the exact Delta, in the coordinates w_+
      and w_- (so that the product starts at alpha / 2).
    alpha_leading: the same with r in place of r_+: the leading order of Prop. 1, 4, 5,
      off by O(rho^2).
    delta, delta_leading: the two Delta.
    shift: log w_+ / w_- at the start, 0 at the paper's.
    nu: -(2/n) integral of r_+, the multiplier: beta = 2 alpha_effective^2 sinh(X^T nu
      + shift).
    loss_integral: integral of the loss.
    end, steps: time of the end, and the solver's steps until there.
    stop_loss: the loss to reach. reached: whether it was.
    diverged: whether the loss rose to 1e6 times its start instead.
    stalled: whether the flow came to rest at another point instead.
    """

    t: Float[Array, "*batch times"]
    betas: Float[Array, "*batch times d"]
    losses: Float[Array, "*batch times"]
    beta: Float[Array, "*batch d"]
    loss: Float[Array, "*batch"]
    alpha_effective: Float[Array, "*batch d"]
    alpha_leading: Float[Array, "*batch d"]
    delta: Float[Array, "*batch d"]
    delta_leading: Float[Array, "*batch d"]
    shift: Float[Array, "*batch d"]
    nu: Float[Array, "*batch n"]
    loss_integral: Float[Array, "*batch"]
    end: Float[Array, "*batch"]
    steps: Int[Array, "*batch"]
    stop_loss: Float[Array, "*batch"]
    reached: Bool[Array, "*batch"]
    diverged: Bool[Array, "*batch"]
    stalled: Bool[Array, "*batch"]


def solve(
    x: ArrayLike,
    y: ArrayLike,
    *,
    alpha: ArrayLike | None = None,
    start: inputs.Start | None = None,
    rho: ArrayLike = 0.0,
    kind: str = "erm",
    m: int = 1,
    parametrization: str = "squares",
    stop_loss: ArrayLike = 1e-12,
    rtol: float = 1e-8,
    atol: float = 1e-12,
    stiff: bool = True,
    max_steps: int | None = None,
    times: ArrayLike | None = None,
    throw: bool = True,
) -> Solution:
    """Solves the flow dw/dt = -(gradient of this kind), Eq. 9-11, to interpolation.

    x, y, alpha, rho and stop_loss may have batch axes that broadcast; all problems of a
    batch are solved in one call, and other values compile nothing anew. Works under
    `jax.jit` and `jax.vmap`.

    Args:
      x: inputs [..., n, d]. y: targets [..., n].
      alpha: scale of the start, w_+ = w_- = alpha, or u = alpha, v = 0; > 0.
      start: in place of alpha, (w_+, w_-) or of the product (u, v), numbers of every
        feature [..., d], with batch axes that broadcast to those of the rest; no w_+ or
        w_- may be 0, where it would stay.
      rho: ascent step of max_sum and sum_max, >= 0; erm has none.
      kind: "erm", "max_sum" or "sum_max".
      m: examples that share a perturbation, for sum_max: 1 in the paper, n is max_sum.
      parametrization: "squares" or "product".
      stop_loss: where to stop, > 0. Rounding keeps a loss of 1e-30 from being reached.
      rtol, atol: of a step, in log w and the integrals.
      stiff: solve by the implicit Kvaerno5, some hundred steps for any alpha. Otherwise
        by the explicit Tsit5, whose steps are bounded by the fastest time scale: some
        hundred for alpha = 1, more than a million for alpha = 1e-3.
      max_steps: steps to give up after; by default 4000, and 1e7 unless stiff.
      times: where the trajectory is wanted, increasing; by default 301 times spaced
        evenly in the logarithm between 1e-2 and 1e8.
      throw: raise if a flow stops early; otherwise `reached` says so.

    Raises: ValueError for unsuitable arguments (see `inputs.problems`), and with
      `throw` for a flow that diverges, stalls or runs out of steps: which, where and
      why. Under jit and vmap there is only `reached`.
    """
    network = networks.create(parametrization)
    inputs.one_start(alpha, start)
    given = inputs.problems(x, y, alpha=alpha, rho=rho, stop_loss=stop_loss)
    scalars = given.scalars
    size = fields.group_size(kind, m, given.x.shape[1])
    if max_steps is None:
        max_steps = 4000 if stiff else 10_000_000
    flat = _solve_each(
        (
            given.x,
            given.y,
            _beginning(network, given, start),
            scalars["rho"] * (kind != "erm"),
            scalars["stop_loss"],
        ),
        jnp.asarray(network.weight),
        jnp.asarray([checks.number("rtol", rtol, 0), checks.number("atol", atol, 0)]),
        _increasing(TIMES if times is None else times),
        m=size,
        stiff=stiff,
        max_steps=checks.integer("max_steps", max_steps, 1),
    )
    if throw and inputs.known(flat.reached):
        _refuse_unreached(flat, given)
    return jax.tree.map(lambda a: a.reshape(*given.shape, *a.shape[1:]), flat)


def _beginning(
    network: networks.Network, given: inputs.Problems, start: inputs.Start | None
) -> networks.Squares:
    """|w_+| and |w_-| at time 0, [problems, d]: beta knows no signs of theirs."""
    if start is None:
        begin = network.start(given.scalars["alpha"], given.x.shape[-1])
        return networks.Squares(*network.split(begin))
    plus, minus = (
        inputs.features(given, "start", jnp.abs(half), nonzero=True)
        for half in network.split(network.layers(*start))
    )
    return networks.Squares(plus, minus)


# x, y, w_+ and w_- at the start, rho, stop_loss
Batch = tuple[Array, Array, networks.Squares, Array, Array]
STATIC = ("m", "stiff", "max_steps")


def _solve_each(batch: Batch, *shared: Array, **static: Any) -> Solution:
    """All problems of a batch, side by side on an accelerator.

    Side by side, all go on for as long as the slowest, and what the steps work on
    leaves the fastest cache. So a CPU takes them one after the other, which also
    compiles once for batches of every size.
    """
    known = all(map(inputs.known, jax.tree.leaves(batch)))
    apart = jax.default_backend() == "cpu" and known
    if not apart and len(batch[0]) > 1:
        return _solve_side_by_side(batch, *shared, **static)
    solved = [
        _solve(jax.tree.map(lambda a, i=i: a[i], batch), *shared, **static)
        for i in range(len(batch[0]))
    ]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *solved)


@functools.partial(jax.jit, static_argnames=STATIC)
def _solve_side_by_side(batch: Batch, *shared: Array, **static: Any) -> Solution:
    return jax.vmap(lambda problem: _solve(problem, *shared, **static))(batch)


@functools.partial(jax.jit, static_argnames=STATIC)
def _solve(
    problem: Batch,
    weight: Float[Array, ""],
    tolerances: Float[Array, " 2"],
    times: Float[Array, " times"],
    **static: Any,
) -> Solution:
    x, y, begin, rho, stop_loss = problem
    alpha = jnp.sqrt(begin.plus * begin.minus)
    scale = weight / dynamics.NETWORK.weight
    settings = dynamics.Settings(rho, stop_loss / scale, *tolerances)
    run = dynamics.run(networks.Examples(x, y), begin, settings, times, **static)
    state = run.state
    return Solution(
        t=run.t,
        betas=run.betas,
        losses=scale * run.losses,
        beta=run.beta,
        loss=scale * run.loss,
        alpha_effective=alpha * jnp.exp(-rho * state.delta),
        alpha_leading=alpha * jnp.exp(-rho * state.delta_leading),
        delta=state.delta,
        delta_leading=state.delta_leading,
        shift=jnp.log(begin.plus / begin.minus),
        nu=state.nu,
        loss_integral=scale * state.loss_integral,
        end=run.time,
        steps=run.steps,
        stop_loss=stop_loss,
        **run.verdicts,
    )


def _increasing(times: ArrayLike) -> Float[Array, " times"]:
    chosen = np.asarray(times, float)
    rises = np.diff(chosen, prepend=-1e-300) > 0
    if chosen.ndim != 1 or not chosen.size or not np.all(rises & np.isfinite(chosen)):
        raise ValueError(
            f"Received times={times}; give finite, increasing numbers >= 0."
        )
    return jnp.asarray(chosen)


def _refuse_unreached(flat: Solution, given: inputs.Problems) -> None:
    failed = np.flatnonzero(~np.asarray(flat.reached))
    if not failed.size:
        return
    i = int(failed[0])
    if flat.diverged[i]:
        reason = "it diverges; give a smaller rho"
    elif flat.stalled[i]:
        size = float(jnp.linalg.norm(flat.beta[i]))
        reason = (
            f"it came to rest with |beta| = {size:.3g}; "
            "large perturbations make such points attractive: give a smaller rho, or "
            "(at beta = 0) a larger alpha"
        )
    else:
        reason = "out of steps; give a larger max_steps or stop_loss, or a smaller rho"
    raise ValueError(
        f"{failed.size} of {len(flat.reached)} flows did not reach their stop_loss. "
        f"{given.describe(i)} ended at t={float(flat.end[i]):.4g} with "
        f"loss={float(flat.loss[i]):.4g} after {int(flat.steps[i])} steps: {reason}. "
        "throw=False returns what there is."
    )
