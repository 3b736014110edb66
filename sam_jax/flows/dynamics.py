"""The differential equation of a flow: the weights and their integrals, to the end."""

import functools
from typing import Any, NamedTuple

import diffrax
import jax.numpy as jnp
import optimistix
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from sam_jax.core import trees
from sam_jax.flows import fields, linear_solver, networks

HORIZON = 1e12  # later than any event: the end of the time axis
BLOW_UP = 1e6  # loss over initial loss at which a flow counts as diverged
REST = 1e-16  # |gradient|^2 / loss over its initial value at which it counts as stalled
LOWEST = -300.0  # log w below which gradient / w would underflow to 0 / 0


class Settings(NamedTuple):
    """rho: ascent step. stop_loss: the mean of r^2 / 4 to stop at. rtol, atol:
    tolerances. All f[].
    """

    rho: Float[Array, ""]
    stop_loss: Float[Array, ""]
    rtol: Any  # f[], where diffrax and optimistix say float
    atol: Any


class State(NamedTuple):
    """log_plus, log_minus: log w_+ and log w_-. The integrals: see solver.Solution.

    In logarithms the weights keep their relative precision while they fall by orders of
    magnitude, and log w_+- = its start - rho Delta +- X^T nu / 2 is a linear relation,
    which Runge-Kutta methods conserve to rounding.
    """

    log_plus: Float[Array, " d"]
    log_minus: Float[Array, " d"]
    delta: Float[Array, " d"]
    delta_leading: Float[Array, " d"]
    nu: Float[Array, " n"]
    loss_integral: Float[Array, ""]

    @property
    def params(self) -> networks.Squares:
        """w_+ and w_-."""
        logs = self.log_plus, self.log_minus
        return networks.Squares(*(jnp.exp(jnp.maximum(w, LOWEST)) for w in logs))


class Run(NamedTuple):
    """t: times of the trajectory, with betas and losses (means of r^2 / 4).
    state, beta, loss, time, steps: at the end. verdicts: reached, diverged, stalled.
    """

    t: Float[Array, " times"]
    betas: Float[Array, "times d"]
    losses: Float[Array, " times"]
    state: State
    beta: Float[Array, " d"]
    loss: Float[Array, ""]
    time: Float[Array, ""]
    steps: Array
    verdicts: dict[str, Bool[Array, ""]]


NETWORK = networks.create("squares")


def run(
    examples: networks.Examples,
    begin: networks.Squares,
    settings: Settings,
    times: Float[Array, " times"],
    *,
    m: int,
    stiff: bool,
    max_steps: int,
) -> Run:
    """Solves the flow of w_+ and w_- from where they begin, above 0, until it ends.

    The product of two layers has the same flow of w_+ = (u + v) / 2 and w_- =
    (u - v) / 2, where in u and v a small w_- would be lost to cancellation.

    Args:
      m: examples that share a perturbation.
      stiff, max_steps: see `solver.solve`.
    """
    n, d = examples.x.shape
    logs, zero = (jnp.log(begin.plus), jnp.log(begin.minus)), jnp.zeros(d)
    start = State(*logs, zero, zero, jnp.zeros(n), jnp.zeros(()))
    # One flat vector: a step's arithmetic is then one kernel, not one a leaf.
    flat_start, unravel = ravel_pytree(start)

    def field(t, flat, args):
        return ravel_pytree(rates(unravel(flat), examples, settings.rho, m))[0]

    initially = _look(start, examples, settings, m)

    def verdicts(state):
        return _verdicts(_look(state, examples, settings, m), initially, settings)

    def finished(t, flat, args, **unused):
        return functools.reduce(jnp.logical_or, verdicts(unravel(flat)).values())

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        _method(stiff, 2 * d, settings),
        t0=0.0,
        t1=HORIZON,
        dt0=None,
        y0=flat_start,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(t1=True),
                diffrax.SubSaveAt(
                    ts=times, fn=lambda t, flat, args: observe(unravel(flat), examples)
                ),
            ]
        ),
        stepsize_controller=diffrax.PIDController(settings.rtol, settings.atol),
        event=diffrax.Event(finished),
        max_steps=max_steps,
        adjoint=diffrax.ForwardMode(),
        throw=False,
    )
    (end, saved), (last, (betas, losses)) = solution.ts, solution.ys
    state = unravel(last[0])
    beta, loss = observe(state, examples)
    before = saved <= end[0]  # diffrax leaves infinities after the event
    return Run(
        t=jnp.where(before, saved, end[0]),
        betas=jnp.where(before[:, None], betas, beta),
        losses=jnp.where(before, losses, loss),
        state=state,
        beta=beta,
        loss=loss,
        time=end[0],
        steps=jnp.asarray(solution.stats["num_steps"]),
        verdicts=verdicts(state),
    )


def observe(
    state: State, examples: networks.Examples
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """beta and the mean of r^2 / 4."""
    params = state.params
    return NETWORK.beta(params), NETWORK.objective.value(params, examples)


def rates(
    state: State, examples: networks.Examples, rho: Float[Array, ""], m: int
) -> State:
    """d/dt of the state: minus the core's gradient over w, and the integrands."""
    params = state.params
    here = fields.gradient(NETWORK, params, examples, rho=rho, m=m)
    residuals = here.outputs - examples.y
    losses = NETWORK.weight * residuals**2
    ascended = fields.ascended_residuals(NETWORK, params, examples, rho=rho, m=m)
    return State(
        log_plus=-here.gradient.plus / params.plus,
        log_minus=-here.gradient.minus / params.minus,
        delta=fields.shrinkage(examples.x, residuals, ascended, m=m),
        delta_leading=fields.shrinkage(examples.x, residuals, residuals, m=m),
        nu=-2 / len(examples.y) * ascended,
        loss_integral=jnp.mean(losses),
    )


Look = tuple[Float[Array, ""], Float[Array, ""]]


def _look(
    state: State, examples: networks.Examples, settings: Settings, m: int
) -> Look:
    """Loss, and squared length of the gradient."""
    here = fields.gradient(NETWORK, state.params, examples, rho=settings.rho, m=m)
    _, loss = observe(state, examples)
    return loss, trees.dot(here.gradient, here.gradient)


def _verdicts(
    now: Look, initially: Look, settings: Settings
) -> dict[str, Bool[Array, ""]]:
    """How the flow ends here, if it does (see solver.Solution)."""
    (loss, slope), (initial_loss, initial_slope) = now, initially
    reached = loss <= settings.stop_loss
    at_rest = slope * initial_loss <= REST * initial_slope * loss
    return {
        "reached": reached,
        "diverged": ~(loss <= BLOW_UP * initial_loss),
        "stalled": ~reached & at_rest,
    }


def _method(stiff: bool, weights: int, settings: Settings) -> Any:
    """diffrax's solver, with a root finder that stays accurate on short steps.

    Its own keeps one Jacobian a step, which fails on the long ones.
    """
    if not stiff:
        return diffrax.Tsit5()
    solver = linear_solver.LeadingBlock(weights)
    return diffrax.Kvaerno5(
        root_finder=optimistix.Chord(settings.rtol, settings.atol, linear_solver=solver)
    )
