"""How the leaves of a training state are sharded: by rules on names, else by size.

The rules are data. A leaf is named as in a checkpoint, "params.Dense_0.kernel", and the
moments of an optimiser end in the name of their parameter, so that one rule shards a
parameter and everything that is kept for it alike.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from jax.sharding import PartitionSpec

# The axes of a mesh that shard parameters; "data" holds copies of them.
AXES = ("fsdp", "tensor")
WHOLE = "-"

Parsed = tuple[tuple[str, tuple[str | None, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Rule:
    """sizes: devices along each of AXES. min_size: entries below which a leaf stays
    whole on every device. given: (pattern, an axis or None for every dimension), of
    which the first whose pattern is found in a name holds for that leaf.
    """

    sizes: tuple[int, int]
    min_size: int
    given: Parsed = ()

    def spec(self, name: str, shape: Sequence[int]) -> PartitionSpec:
        """The axis of the mesh that each dimension of a leaf is sharded over.

        A rule for another number of dimensions does not hold for a leaf: an optimiser
        may keep something smaller for a parameter. Without a rule, the largest
        dimension that the devices of "fsdp" divide is sharded over them, then the
        largest of the others over those of "tensor"; of equal ones the last.
        """
        for pattern, axes in self.given:
            if len(axes) == len(shape) and re.search(pattern, name):
                return _spec(axes)
        found: list[str | None] = [None] * len(shape)
        if math.prod(shape) >= self.min_size:
            for axis, size in zip(AXES, self.sizes, strict=True):
                free = [
                    (shape[i], i)
                    for i, taken in enumerate(found)
                    if taken is None and size > 1 and shape[i] % size == 0
                ]
                if free:
                    found[max(free)[1]] = axis
        return _spec(found)

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Checks the given rules against the parameters, name -> shape.

        Raises: ValueError for a rule that no parameter is named by, or of another
          number of dimensions, or of dimensions that the devices do not divide.
        """
        sizes = dict(zip(AXES, self.sizes, strict=True))
        left = dict(shapes)
        for pattern, axes in self.given:
            text = f"parallel.rules: {pattern}={','.join(a or WHOLE for a in axes)}"
            named = [name for name in left if re.search(pattern, name)]
            if not named:
                raise ValueError(
                    f"{text} is the first to name none of the parameters "
                    f"{', '.join(shapes)}; mend the pattern, or leave the rule out."
                )
            for name in named:
                shape = left.pop(name)
                if len(shape) != len(axes):
                    raise ValueError(
                        f"{text} has {len(axes)} dimensions for {name} of shape "
                        f"{tuple(shape)}; give one of {', '.join(AXES)} or "
                        f"{WHOLE!r} for each."
                    )
                for length, axis in zip(shape, axes, strict=True):
                    if axis is not None and length % sizes[axis]:
                        raise ValueError(
                            f"{text} shards {length} of {name} {tuple(shape)} over "
                            f"{sizes[axis]} devices of {axis!r}; they must divide it. "
                            f"Give {WHOLE!r} for that dimension."
                        )


def _spec(axes: Sequence[str | None]) -> PartitionSpec:
    """Without what is whole at the end, as results of compiled programs have it."""
    last = max((i for i, axis in enumerate(axes) if axis is not None), default=-1)
    return PartitionSpec(*axes[: last + 1])


def parse(rules: Iterable[str]) -> Parsed:
    """Rules of a configuration, "PATTERN=AXIS,AXIS" with one axis a dimension.

    PATTERN is a regular expression, found anywhere in a name.

    Raises: ValueError for what is no such rule, and for an axis that is none of AXES.
    """
    return tuple(map(_parse, rules))


def _parse(rule: str) -> tuple[str, tuple[str | None, ...]]:
    pattern, equals, axes = rule.rpartition("=")
    names = [axis.strip() for axis in axes.split(",")]
    form = (
        "give PATTERN=AXIS,AXIS,... with a regular expression and, for every "
        f"dimension, one of {', '.join(AXES)} or {WHOLE!r}"
    )
    if not (equals and pattern):
        raise ValueError(f"Received the rule {rule!r}; {form}.")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"Received the rule {rule!r} ({error}); {form}.") from None
    unknown = [axis for axis in names if axis not in (*AXES, WHOLE)]
    if unknown:
        raise ValueError(f"Received the axis {unknown[0]!r} in {rule!r}; {form}.")
    twice = [axis for axis in AXES if names.count(axis) > 1]
    if twice:
        raise ValueError(
            f"Received the axis {twice[0]!r} twice in {rule!r}; an axis shards one "
            f"dimension: {form}."
        )
    return pattern, tuple(None if axis == WHOLE else axis for axis in names)
