"""From a checked configuration to everything a run needs, before its first step."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from sam_jax import data, models, schedules
from sam_jax.core.gradient import Gradient
from sam_jax.training import (
    checkpoint,
    configuration,
    consistency,
    flat_state,
    loading,
    own,
    parallel,
    problem,
    robust,
    streaming,
)
from sam_jax.training import state as states
from sam_jax.training import step as steps
from sam_jax.training.configuration import Config, ConfigError
from sam_jax.training.evaluate import Evaluator, FreshStatistics
from sam_jax.training.examples import Examples
from sam_jax.training.feeds import Streamed
from sam_jax.training.key_types import Change
from sam_jax.transforms import Point

Step = Callable[..., tuple[states.State, steps.Metrics]]


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run's compiled and loaded parts.

    layout: its devices. examples: on every device, or streamed.
    train: indices of training examples.
    epoch_steps: steps an epoch. coefficients: of every step, f[steps].
    module: called with (images, train). loss: (logits, labels) -> per-example losses.
    plain_step, ascent_step: mapped; the latter None for a run without ascent.
    evaluate: (params, batch_stats, examples) -> figures.
    fresh_statistics: (params, batch_stats, examples) -> batch_stats.
    initial_state: () -> the state before step 0.
    many_programs: () -> programs for `vmap` over the weights of many runs.
    checksum: of the data.
    """

    layout: parallel.Layout
    examples: Examples | Streamed
    train: np.ndarray
    epoch_steps: int
    coefficients: steps.Coefficients
    module: nn.Module
    loss: steps.Loss
    plain_step: Step
    ascent_step: Step | None
    evaluate: Evaluator
    fresh_statistics: FreshStatistics
    initial_state: Callable[[], states.State]
    many_programs: Callable[[], "Programs"]
    checksum: int


def build(
    config: Config,
    like: Setup | None = None,
    module: Any = None,
    dataset: data.Dataset | None = None,
) -> Setup:
    """Loads data, makes the model, and maps the steps; nothing is compiled yet.

    Args:
      like: of a run on the same images, which are then on the device once for both.
      module, dataset: given from Python, see `loop.run`; None for those of the config.

    Raises: ValueError for whatever does not fit together.
    """
    layout = problem.create_layout(config)
    problem.check_batches(config, layout)
    examples, parts, num_classes = load_examples(config, dataset)
    consistency.check_classes(config, num_classes)
    checksum = _checksum(examples)
    parallel.agree("their data", checksum)
    train, size = parts["train"], config.batch_size
    if len(train) < size:
        raise ConfigError(
            f"Received batch_size={size} for {len(train)} training examples; take a "
            "batch no larger than the training set."
        )
    network = problem.create_model(config, num_classes, 1, size, module)
    draws = own.check_network(config, network, examples, num_classes, layout.width)
    compiled = _shared(config), num_classes, layout, module, draws
    programs = compile_programs(*compiled)
    module, loss = programs.module, programs.loss
    problem.check_mask(config, module, examples)
    problem.check_rules(layout, module, examples)
    return Setup(
        layout=layout,
        examples=_on_device(examples, layout, like),
        train=train,
        epoch_steps=len(train) // size,
        coefficients=tabulate_coefficients(config, len(train) // size),
        module=module,
        loss=loss,
        plain_step=programs.plain_step,
        ascent_step=programs.ascent_step,
        evaluate=Evaluator(
            module,
            loss,
            layout,
            parts=loading.evaluated(config, parts),
            batch_size=config.eval.batch_size,
            adversary=robust.evaluation_adversary(config.attack),
        ),
        fresh_statistics=FreshStatistics(module, layout, train=train, batch_size=size),
        initial_state=functools.partial(
            initial_state,
            config,
            module,
            programs.optimizer,
            examples.image_shape,
            examples.input_dtype,
            read_weights(config.init_from),
            layout.create,
        ),
        many_programs=functools.partial(compile_programs, *compiled, many=True),
        checksum=checksum,
    )


def load_examples(
    config: Config, dataset: data.Dataset | None = None
) -> tuple[Examples | Streamed, dict[str, np.ndarray], int]:
    """What `loading.load_examples` returns, or of a streamed run `streaming`'s."""
    if config.data.feed == "stream":
        return streaming.load_examples(config, dataset)
    return loading.load_examples(config, dataset)


def _checksum(examples: Examples | Streamed) -> int:
    if isinstance(examples, Streamed):
        return examples.checksum()
    arrays = {n: a for n, a in examples._asdict().items() if a is not None}
    return flat_state.checksum(arrays)


def _on_device(
    examples: Examples | Streamed, layout: parallel.Layout, like: Setup | None
) -> Examples | Streamed:
    """The examples on every device; given labels alone where another has the rest.
    Streamed ones stay where they are.
    """
    if isinstance(examples, Streamed):
        return examples
    if like is None:
        return layout.replicate(examples)
    assert isinstance(like.examples, Examples)
    return like.examples._replace(given=layout.replicate(examples.given))


class Programs(NamedTuple):
    """The mapped steps of all runs alike, and what they are made of."""

    module: nn.Module
    loss: steps.Loss
    optimizer: optax.GradientTransformation
    plain_step: Step
    ascent_step: Step | None


@functools.lru_cache(maxsize=4)
def compile_programs(
    config: Config,
    num_classes: int,
    layout: parallel.Layout,
    module: Any,
    draws: bool,
    many: bool = False,
) -> Programs:
    """The network and its steps, traced once for runs that differ in data alone.

    Tracing a deep network takes seconds, a run of a small one not much more: a sweep
    would spend half its time on it.

    Args:
      config: as `_shared` makes it.
      module: given from Python, or None. draws: whether the network has dropout.
      many: whether they are for `vmap` over the weights of many runs.
    """

    def make_module(m: int) -> nn.Module:
        made = problem.create_model(config, num_classes, layout.width, m, module)
        return models.side_by_side(made) if many else made

    network, loss = make_module(config.batch_size), problem.create_loss(config)
    optimizer = states.make_optimizer(config.optimizer)
    make_step = functools.partial(map_step, config, layout, loss, optimizer, draws)
    ascent_step = None
    if config.sam.kind != "erm":
        ascent_step = make_step(
            make_module(consistency.group_size(config)), problem.create_gradient(config)
        )
    plain_step = make_step(network, steps.plain_gradient)
    return Programs(network, loss, optimizer, plain_step, ascent_step)


def _shared(config: Config) -> Config:
    """What compiled steps depend on: equal for runs that share their programs."""
    others = (change for change in Change if change is not Change.PROGRAM)
    return configuration.nest(configuration.without(config, *others))


def map_step(
    config: Config,
    layout: parallel.Layout,
    loss: steps.Loss,
    optimizer: optax.GradientTransformation,
    draws: bool,
    module: nn.Module,
    take_gradient: Callable[[Point], Gradient],
) -> Step:
    """The training step over all devices; it takes over the memory of its state."""
    step = functools.partial(
        steps.train_step,
        module=module,
        loss=loss,
        take_gradient=take_gradient,
        mask=problem.create_mask(config),
        optimizer=optimizer,
        ema_decay=config.ema.decay,
        augment=problem.make_augment(config),
        axis_name=layout.axis_name,
        adversary=robust.training_adversary(config.attack),
        paired=problem.create_paired(config),
        draws=draws,
    )
    return layout.map(step, rows=(3, 4), donate=(0,))


MOST_STEPS = 2**26  # their coefficients are in memory


def tabulate_coefficients(config: Config, epoch_steps: int) -> steps.Coefficients:
    """The schedules' values at every step of a run, f[steps]."""
    total = config.epochs * epoch_steps
    if total > MOST_STEPS:
        raise ConfigError(
            f"Received epochs={config.epochs} of {epoch_steps} steps each, {total} in "
            f"all; a run takes at most {MOST_STEPS}. Give epochs="
            f"{MOST_STEPS // epoch_steps} or fewer."
        )

    def values(name: str, peak: float, warmup_steps: int = 0) -> np.ndarray:
        try:
            schedule = schedules.create(
                name, peak=peak, total_steps=total, warmup_steps=warmup_steps
            )
        except ValueError as error:
            keys = "schedule.name, schedule.warmup_epochs" if warmup_steps else ""
            raise ConfigError(
                f"{keys or 'schedule.name, sam.rho_schedule'}: {error} An epoch has "
                f"{epoch_steps} steps."
            ) from None
        return np.asarray(jax.jit(jax.vmap(schedule))(np.arange(total)))

    warmup_steps = round(config.schedule.warmup_epochs * epoch_steps)
    return steps.Coefficients(
        values(config.schedule.name, config.schedule.peak, warmup_steps),
        values(config.sam.rho_schedule, config.sam.rho),
        np.full(total, config.l2),
        # From the first step after this part of the training on (App. D).
        np.where(
            np.arange(total) < config.pairing.start * total, 0, config.pairing.weight
        ),
    )


def initial_state(
    config: Config,
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    input_dtype: Any,
    pretrained: flat_state.Arrays | None,
    create: Callable[[Callable[[], states.State]], states.State],
) -> states.State:
    """The state before step 0: random weights, or those of another run.

    Args:
      create: makes the random one, where a layout wants it.

    Raises: CheckpointError if the other run's network is another one.
    """
    state = create(
        functools.partial(
            states.create,
            module,
            optimizer,
            seed=config.seed,
            image_shape=image_shape,
            input_dtype=input_dtype,
            dtype=loading.param_dtype(config),
            ema=config.ema.decay > 0,
        )
    )
    if pretrained is not None:
        start = {"params": state.params, "batch_stats": state.batch_stats}
        chosen = {n: a for n, a in pretrained.items() if n.split(".")[0] in start}
        state = states.start_from(state, **flat_state.unflatten(start, chosen))
    variant = problem.create_variant_state(config, state.params)
    return state._replace(variant=variant)


def read_weights(workdir: str) -> flat_state.Arrays | None:
    """The newest checkpoint of another run's work directory; None for none.

    Raises: ConfigError if there is no checkpoint.
    """
    if not workdir:
        return None
    directory = pathlib.Path(workdir) / "checkpoints"
    with checkpoint.Checkpoints(directory, read_only=True) as checkpoints:
        saved = checkpoints.restore()
    if saved is None:
        raise ConfigError(
            f"Received init_from={workdir!r}, where there is no checkpoint; give the "
            "work directory of a finished run, or '' for random weights."
        )
    return saved.state
