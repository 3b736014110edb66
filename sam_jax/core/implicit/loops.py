"""Loops of a network (`jax.lax.scan`, `jax.lax.map`), which both passes run as loops.

The plan enters the body of a loop once, however many times it runs. A site in there is
one site an iteration, and everything of it is stacked by iterations. A weight comes in
as one of two things:

- sliced, a weight of its own for every iteration: a stack of layers;
- whole, the same weight every time: its iterations are positions T like any others.

A weight that is carried from one iteration to the next is no site's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from sam_jax.core.implicit.interpreter import Key
from sam_jax.ops import compat
from sam_jax.ops.compat import ClosedJaxpr, JaxprEqn

Tree = Any


class Around(NamedTuple):
    """A loop around a site. key: of its equation. length: its iterations.
    sliced: whether the weight is one for each iteration.
    """

    key: Key
    length: int
    sliced: bool


class Loop(NamedTuple):
    """The equation of a loop, taken apart.

    body: (consts, carry, slices) -> (carry, results). consts, carry: how many.
    options: of `jax.lax.scan`.
    """

    body: ClosedJaxpr
    consts: int
    carry: int
    length: int
    options: Mapping[str, Any]

    @classmethod
    def of(cls, eqn: JaxprEqn) -> "Loop | None":
        """The loop of an equation; None for any other equation and for no iteration."""
        if compat.name(eqn) != "scan" or eqn.params["length"] == 0:
            return None
        params = eqn.params
        return cls(
            params["jaxpr"],
            params["num_consts"],
            params["num_carry"],
            params["length"],
            {key: params[key] for key in ("reverse", "unroll")},
        )

    def inputs(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """The inputs of the equation, or of the body: consts, carry, slices."""
        first, second = self.consts, self.consts + self.carry
        return list(values[:first]), list(values[first:second]), list(values[second:])


class Entry(NamedTuple):
    """A value that a rule needs at a site. loops: the loops that slice its leading
    axes, the outermost first.
    """

    value: Tree
    loops: tuple[Key, ...] = ()


Entries = Mapping[Any, Entry]


def run(
    loop: Loop,
    key: Key,
    inputs: Sequence[Any],
    entries: Entries,
    body: Callable[[Sequence[Any], Entries], tuple[Sequence[Any], Tree]],
) -> tuple[list[Any], Tree]:
    """Runs a loop with another body, which is given its slices of the entries.

    Args:
      key: of the loop's equation. inputs: of the equation.
      body: (inputs of one iteration, entries) -> (outputs, saved).

    Returns: the outputs of the equation, and what was saved, stacked by iterations.
    """
    consts, carry, slices = loop.inputs(inputs)
    names = [name for name, entry in entries.items() if entry.loops[:1] == (key,)]
    shared: list[Sharing] = []

    def step(carry, sliced):
        slices, values = sliced
        own = {
            name: Entry(value, entries[name].loops[1:])
            for name, value in zip(names, values, strict=True)
        }
        outputs, saved = body([*consts, *carry, *slices], {**entries, **own})
        once = Sharing.of(saved)
        shared.append(once)
        return list(outputs[: loop.carry]), (list(outputs[loop.carry :]), once.values)

    carry, (results, values) = jax.lax.scan(
        step,
        carry,
        (slices, [entries[name].value for name in names]),
        length=loop.length,
        **loop.options,
    )
    return [*carry, *results], shared[-1].rebuild(values)


class Sharing(NamedTuple):
    """A tree with what stands in it several times taken out: a loop stacks it once."""

    values: list[Any]
    places: list[int]
    structure: Any

    @classmethod
    def of(cls, tree: Tree) -> "Sharing":
        leaves, structure = jax.tree.flatten(tree)
        first = {id(leaf): leaf for leaf in leaves}
        order = {name: i for i, name in enumerate(first)}
        places = [order[id(leaf)] for leaf in leaves]
        return cls(list(first.values()), places, structure)

    def rebuild(self, values: Sequence[Any]) -> Tree:
        """The tree, of these values."""
        return jax.tree.unflatten(self.structure, [values[i] for i in self.places])
