"""AutoAttack here against the seconds of the original, on its networks and images."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments.benchmarks.rows import Row
from sam_jax import attacks

REFERENCE = pathlib.Path(__file__).parents[2] / "tests/reference/autoattack_digits.npz"
MACHINE = "one thread of another machine"


def against_original(
    settings: tuple[tuple[str, str], ...] = (
        ("adv", "linf"),
        ("adv", "l2"),
        ("plain", "linf"),
        ("plain", "l2"),
    ),
) -> list[Row]:
    """AutoAttack (standard, 256 digits): seconds after compilation, and the original's.

    The original's were measured on another machine; its robust accuracy is beside ours.
    """
    with np.load(REFERENCE) as saved:
        data = dict(saved)
    x, y = jnp.asarray(data["x"] / np.float32(16)), jnp.asarray(data["y"])
    found = []
    for net, norm in settings:
        prefix = f"{net}/params/"
        params = {k.removeprefix(prefix): v for k, v in data.items() if prefix in k}
        for _ in range(2):  # the first compiles
            result = attacks.auto_attack(
                Partial(network, params),
                x,
                y,
                eps=float(data[f"{net}/{norm}/eps"]),
                norm=norm,
                key=jax.random.key(0),
                verbose=False,
            )
        original = f"{net}/{norm}/ensemble"
        seconds = sum(result.seconds.values())
        theirs = float(data[f"{original}/seconds"])
        found.append(
            {
                "figure": f"auto_attack / original's ({net}, {norm}; {MACHINE})",
                "seconds": seconds,
                "baseline_seconds": theirs,
                "ratio": seconds / theirs,
                "rounds": 1,
                "goal": 0.5,
                "robust_accuracy": float(result.robust.mean()),
                "baseline_robust_accuracy": float(data[f"{original}/robust_accuracy"]),
            }
        )
    return found


def network(params: dict[str, Any], images: jax.Array) -> jax.Array:
    """The original's network: two convolutions and two dense layers."""
    x = images
    for name, stride in (("conv1", 1), ("conv2", 2)):
        x = jax.lax.conv_general_dilated(
            x,
            params[f"{name}_w"],
            (stride, stride),
            [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + params[f"{name}_b"])
    x = jax.nn.relu(x.reshape(len(x), -1) @ params["fc1_w"] + params["fc1_b"])
    return x @ params["fc2_w"] + params["fc2_b"]
