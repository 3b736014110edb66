"""Flows and iterations on diagonal linear networks, and their implicit bias."""

from sam_jax import extras

with extras.needed("sam_jax.flows", "flows"):
    from sam_jax.flows.certificates import Certificate, certificate
    from sam_jax.flows.iteration import Iterates, Method, iterate, log_times
    from sam_jax.flows.networks import smoothness
    from sam_jax.flows.potentials import (
        Minimum,
        minimize_potential,
        potential,
        potential_gradient,
    )
    from sam_jax.flows.solver import Solution, solve

__all__ = [
    "Certificate",
    "Iterates",
    "Method",
    "Minimum",
    "Solution",
    "certificate",
    "iterate",
    "log_times",
    "minimize_potential",
    "potential",
    "potential_gradient",
    "smoothness",
    "solve",
]
