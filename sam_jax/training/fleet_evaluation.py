"""The evaluations of several runs as one, of networks side by side (see `fleet`)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.training import evaluate, loop
from sam_jax.training.examples import Examples
from sam_jax.training.state import State

Tree = Any
Figures = dict[str, float]


def stack(trees: Sequence[Tree]) -> Tree:
    """One tree, its leaves with an axis over the given ones."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def take(tree: Tree, i: int) -> Tree:
    """The tree at place i of `stack`."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


class Evaluators:
    """What `loop.evaluate` gives for each of several runs.

    Their batches have to be of one shape; where noise leaves some runs other parts than
    others, each is evaluated alone.
    """

    def __init__(self, runs: Sequence[loop.Run], axes: Examples):
        """Compiles nothing yet.

        Args:
          axes: of the examples, along which the runs lie.
        """
        self._runs = runs
        self._each = [run.setup.evaluate for run in runs]
        self._alike = all(e.form == self._each[0].form for e in self._each)
        programs, setup = runs[0].setup.many_programs(), runs[0].setup
        module, layout = programs.module, setup.layout
        many = (0, 0, axes, 0, 0)
        sums = evaluate.mapped_sums(module, programs.loss, layout)
        self._sums, self._attack = jax.jit(jax.vmap(sums, many)), None
        if (adversary := self._each[0].adversary) is not None:
            # Not compiled as a whole, for the reason that its steps are not.
            self._attack = jax.vmap(evaluate.attack(module, layout, adversary), many)

    def __call__(self, states: State, examples: Examples) -> list[Figures]:
        """The figures of each run.

        Args:
          states, examples: of all runs.
        """
        figures = self._of(states.params, states.batch_stats, examples)
        if states.ema_params is None:
            return figures
        fresh = []
        for i, run in enumerate(self._runs):
            params, old = take((states.ema_params, states.batch_stats), i)
            fresh.append(run.setup.fresh_statistics(params, old, run.setup.examples))
        averaged = self._of(states.ema_params, stack(fresh), examples)
        return [
            plain | {f"ema_{name}": value for name, value in of_average.items()}
            for plain, of_average in zip(figures, averaged, strict=True)
        ]

    def _of(self, params: Tree, batch_stats: Tree, examples: Examples) -> list[Figures]:
        if not self._alike:
            return [
                run.setup.evaluate(
                    take(params, i), take(batch_stats, i), run.setup.examples
                )
                for i, run in enumerate(self._runs)
            ]
        given = params, batch_stats, examples
        total, attacked = self._total(self._sums, *given), None
        if self._attack is not None:
            attacked = self._total(self._attack, *given)
        return [
            own.figures(*jax.tree.map(lambda x, i=i: x[i], (total, attacked)))
            for i, own in enumerate(self._each)
        ]

    def _total(self, sums: Callable, *given: Tree) -> Tree:
        """Sums over all batches, [runs, parts]."""
        batches = zip(*(each.batches for each in self._each), strict=True)
        pending = [
            sums(*given, *(np.stack(rows) for rows in zip(*batch, strict=True)))
            for batch in batches
        ]
        return evaluate.added(jax.device_get(pending))
