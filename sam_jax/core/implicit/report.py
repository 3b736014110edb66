"""How the implicit path holds the perturbation of each parameter, as a table."""

from typing import Any, NamedTuple

import jax

from sam_jax.core import groups
from sam_jax.core.implicit import plan
from sam_jax.core.implicit.network import trace
from sam_jax.core.objective import Objective


class Report(NamedTuple):
    """leaves: the plan of every parameter (path, shape, mode, why, penalty, bytes).
    number: groups in the batch.
    """

    leaves: tuple[plan.Leaf, ...]
    number: int

    @property
    def total_bytes(self) -> int:
        """What all perturbations of all groups take together."""
        return self.number * sum(leaf.bytes for leaf in self.leaves)

    def __str__(self) -> str:
        header = ("parameter", "shape", "held as", "bytes a group", "why")
        rows = [header] + [
            (leaf.path, str(leaf.shape), leaf.mode, f"{leaf.bytes:,}", leaf.why)
            for leaf in self.leaves
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
            for row in rows
        ]
        end = f"{self.number} groups, {self.total_bytes / 2**20:.1f} MiB together"
        return "\n".join([*(line.rstrip() for line in lines), end])


def implicit_report(
    objective: Objective, params: Any, batch: Any, m: groups.Count = 1
) -> Report:
    """Which parameters are implicit (gram or explicit), which are materialised and why.

    Nothing is computed: params and batch may be shapes.
    """
    number = groups.form(batch, m).number
    group = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((x.shape[0] // number, *x.shape[1:]), x.dtype),
        batch,
    )
    return Report(trace(objective, params, group).plan.leaves, number)
