"""What Muon and AdamW do to which leaves of a network."""

from typing import Any

import jax
import optax
from optax import contrib

from sam_jax.training.configuration import Config

Tree = Any

# Leaves that AdamW and Muon do not decay, by their names in flax.
UNDECAYED = ("bias", "scale")
# Layers at the ends of a network, whose kernels Muon leaves to Adam (Jordan 2024).
ENDS = ("head", "patches")
# Muon's steps get the root mean square of Adam's (Liu et al. 2025, Sec. 2.2), so that
# both take one learning rate.
CONSISTENT_RMS = 0.2


def decayed(params: Tree) -> Tree:
    """Mask of the leaves that AdamW and Muon decay: all but biases and norm scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in UNDECAYED, params
    )


def hidden_kernels(params: Tree) -> Tree:
    """Which axes of a kernel Muon takes for rows and columns; None for other leaves.

    Dense kernels [in, out], convolutions [height, width, in, out], and stacked dense
    ones [layers, in, out] of `models.transformer.stack`, layer by layer.
    """

    def one(path: Any, leaf: Any) -> contrib.MuonDimensionNumbers | None:
        *parents, name = (part.key for part in path)
        inputs = {2: 0, 4: (0, 1, 2)}.get(leaf.ndim)
        if leaf.ndim == 3 and "blocks" in parents:
            inputs = 1
        if name != "kernel" or inputs is None or parents[-1] in ENDS:
            return None
        return contrib.MuonDimensionNumbers(inputs, leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(one, params)


def muon(settings: Config) -> optax.GradientTransformation:
    """Muon on hidden kernels and Adam elsewhere, as a direction of descent."""
    return contrib.muon(
        -1.0,  # a direction of descent, not a step
        beta=settings.momentum,
        eps=settings.epsilon,
        nesterov=settings.nesterov,
        adam_b1=settings.beta1,
        adam_b2=settings.beta2,
        muon_weight_dimension_numbers=hidden_kernels,
        consistent_rms=CONSISTENT_RMS,
    )
