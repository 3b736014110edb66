"""What every variant is tuned over where all are compared: as many candidates each.

Declared here before any run, but for WSAM and LE-SAM: with radii and budgets ten times
as large they learned nothing from noisy labels, and text best at the smallest. Those
without a knob of their own take all radii; those with one take the middle radii with
each of two values of it.
"""

from typing import Any

from sam_jax.transforms import VARIANTS

# Radii as multiples of SAM's, where a ball has another shape or size.
FACTORS = {
    "sum_max": 0.3,
    "asam": 5.0,
    "layerwise_sam": 0.1,
    "msam": 10.0,
    "wsam": 0.1,
    "light_sam": 10.0,
}
WEIGHTS = {"mesa": (0.1, 0.3, 0.8, 2.0)}  # in place of radii: weights of a penalty
# The knob of a variant and the two values that it is tuned over; the others' are fixed.
KNOBS = {
    "sum_max": ("m", (1, 16)),
    "gsam": ("alpha", (0.1, 0.4)),
    "friendly_sam": ("decay", (0.6, 0.95)),
    "vasso": ("theta", (0.4, 0.9)),
    "wsam": ("gamma", (0.8, 0.95)),
    "cr_sam": ("trace_weight", (0.1, 0.5)),
    "fisher_sam": ("fisher_weight", (1.0, 100.0)),
    "zsharp": ("quantile", (0.7, 0.95)),
    "le_sam": ("budget", (0.01, 0.03)),
    "sparse_sam": ("sparsity", (0.5, 0.8)),
    "esam": ("select", (0.5, 0.8)),
    "ae_sam": ("threshold", (-0.5, 0.5)),
    "lookbehind_sam": ("interpolation", (0.5, 0.8)),
    "eigen_sam": ("strength", (0.2, 0.5)),
    "mesa": ("decay", (0.99, 0.999)),
}


# Where gradients of a step are no whole number, a forward pass being a third.
PASSES = {
    "max_sum": 7 / 3,
    "random_perturbation": 4 / 3,
    "mesa": 4 / 3,
    "imb_sam": 8 / 3,
    "focal_sam": 8 / 3,
}


def gradients(kind: str) -> float:
    """Of a step, in those of ERM."""
    return 1.0 if kind == "erm" else PASSES.get(kind, VARIANTS[kind].gradients)


def candidates(kind: str, radii: tuple[float, ...]) -> list[dict[str, Any]]:
    """What a variant is tuned over: as many as there are radii; ERM over nothing."""
    if kind == "erm":
        return [{}]
    factor = FACTORS.get(kind, 1.0)
    radii = WEIGHTS.get(kind, tuple(round(factor * rho, 6) for rho in radii))
    if kind not in KNOBS:
        return [{"sam.rho": rho} for rho in radii]
    knob, values = KNOBS[kind]
    count = len(radii) // len(values)
    start = (len(radii) - count) // 2
    return [
        {"sam.rho": rho, f"sam.{knob}": value}
        for rho in radii[start : start + count]
        for value in values
    ]
