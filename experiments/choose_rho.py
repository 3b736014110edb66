"""A radius from the rise of the loss, and one carried over m, against full sweeps.

`choose_rho` measures at the weights that a run starts from, on one batch, the radius at
which the loss rises by a share; `carry_rho` makes the best radius of the batch that of
groups of m. The nearest radius of a sweep stands for each. Its regret is its test error
less that of the sweep's best radius by validation, on the same seeds. The sweeps are
those of other experiments: what these have trained in folders beside is taken.

The budget was .3 at first. On digits that radius was six to eleven times the best one
without normalisation, where SAM does not train, and no radius met it with BatchNorm. Of
.02, .05, .1 and .2, tried after that, .05 had the least regret on these two sweeps;
what the others say of it counts.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import sam_jax
from experiments import gpt, m_norms, m_sharpness
from experiments.harness import comparison, comparison_plots
from experiments.harness.claims import Arrays, Claim
from experiments.harness.equal_cost import PLACES, Place
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed
from experiments.harness.statistics import CONTRARY
from sam_jax import plotting, sharpness
from sam_jax.analysis import networks, restore
from sam_jax.training import loop
from sam_jax.training import step as steps
from sam_jax.transforms.radius import NoRadius

SOURCE = "Choosing rho (ours)"
TAKES = ("m_sharpness", "m_norms", "gpt")  # whose trained runs are taken
# How a radius is found: by the default rise, from another m or batch size, and by the
# rise of another sweep's best radius.
HOW = {"chosen": "choose_rho", "carried": "carry_rho", "alike": "an equal rise"}
# Declared before any run: what a regret of no matter is, in the units of a place.
MARGINS = {"noisy": 1.0, "gpt": 0.02}


class Sweep(NamedTuple):
    """label: in figures and claims. module, scale, method: where the sweep is planned.
    place: of `equal_time.PLACES`. whole: the sweep whose best radius is carried to this
    one, over m or the batch size; "" for none. like: that whose rise of the loss at its
    best radius is carried, over any difference; "" for none. changes: keys changed
    beside. rho: its grid, where that is not the other experiment's.
    """

    label: str
    module: ModuleType
    scale: str
    method: str
    place: str = "noisy"
    whole: str = ""
    like: str = ""
    changes: Mapping[str, Any] = {}
    rho: tuple[float, ...] = ()


SWEEPS = {
    "smoke": Sweep("digits, smoke", m_sharpness, "smoke", "none_0"),
    "smoke_1": Sweep("m = 1, smoke", m_sharpness, "smoke", "none_1", whole="smoke"),
    "digits": Sweep("digits", m_sharpness, "cpu", "none_0"),
    "digits_1": Sweep("digits, m = 1", m_sharpness, "cpu", "none_1", whole="digits"),
    "digits_group": Sweep("digits, GroupNorm", m_norms, "cpu", "group_0"),
    "digits_batch": Sweep("digits, BatchNorm", m_norms, "cpu", "batch_0"),
    "fashion": Sweep("Fashion-MNIST", m_sharpness, "fashion", "none_0"),
    "fashion_16": Sweep(
        "Fashion-MNIST, m = 16", m_sharpness, "fashion", "none_16", whole="fashion"
    ),
    "fashion_1": Sweep(
        "Fashion-MNIST, m = 1", m_sharpness, "fashion", "none_1", whole="fashion"
    ),
    "gpt": Sweep("GPT", gpt, "cpu", "sam", place="gpt"),
    "paper_64": Sweep("CIFAR-10, m = 64", m_sharpness, "paper", "group_64"),
    "paper_group": Sweep("CIFAR-10, GroupNorm", m_norms, "paper", "group_0"),
    "paper_batch": Sweep("CIFAR-10, BatchNorm", m_norms, "paper", "batch_0"),
    "paper_gpt": Sweep("GPT-2", gpt, "paper", "sam", place="gpt"),
}


def _other(like: str, words: str, rho: tuple[float, ...] = (), **changes: Any) -> Sweep:
    """A sweep in another batch size or width, to which that of `like` is carried."""
    base, whole = SWEEPS[like], like if "batch_size" in changes else ""
    keys = {name.replace("model_", "model."): value for name, value in changes.items()}
    label = f"{base.label}, {words}"
    return base._replace(label=label, whole=whole, like=like, changes=keys, rho=rho)


WIDER = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
SWEEPS |= {
    "smoke_32": _other("smoke", "half a batch", batch_size=16),
    "digits_32": _other("digits", "a batch of 32", WIDER, batch_size=32),
    "digits_128": _other("digits", "a batch of 128", WIDER, batch_size=128),
    "digits_wide": _other("digits", "twice as wide", WIDER, model_widths=(32, 64)),
    "paper_256": _other("paper_group", "a batch of 256", batch_size=256),
    "paper_wide": _other("paper_group", "twice as wide", model_width=128),
}
SMALL = ("digits", "digits_1", "digits_group", "digits_batch", "gpt")


@dataclasses.dataclass(frozen=True)
class Settings:
    """sweeps: of SWEEPS. budget: rise of the loss over the loss, of `choose_rho`.
    changes: keys changed in every run.
    """

    sweeps: tuple[str, ...] = SMALL
    budget: float = 0.05
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SCALES = {
    "smoke": Settings(sweeps=("smoke", "smoke_1"), changes={"model.name": "mlp"}),
    "cpu": Settings(),
    "fashion": Settings(sweeps=("fashion", "fashion_16", "fashion_1", *SMALL)),
    "paper": Settings(sweeps=("paper_64", "paper_group", "paper_batch", "paper_gpt")),
}


def place(name: str) -> Place:
    """What errors of a sweep are, and their units."""
    return PLACES[SWEEPS[name].place]


def seeds(name: str) -> tuple[int, ...]:
    """Those of the sweep."""
    return SWEEPS[name].module.SCALES[SWEEPS[name].scale].seeds


def sweep(settings: Settings, name: str) -> comparison.Method:
    """The method that is swept, as the other experiment plans it."""
    one = SWEEPS[name]
    several = one.module.methods(one.module.SCALES[one.scale])
    (method,) = [method for method in several if method.key == one.method]
    config = changed(method.config, {**one.changes, **settings.changes})
    return comparison.Method(name, one.label, config, one.rho or method.rho)


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """The sweeps."""
    found: dict[Key, PlannedRun] = {}
    for name in settings.sweeps:
        found |= comparison.plan([sweep(settings, name)], seeds(name))
    return found


class Start(NamedTuple):
    """The weights that a sweep's first seed starts from, and one batch of its."""

    objective: sam_jax.Objective
    params: Any
    batch: Any
    m: int | None


def _start(settings: Settings, name: str) -> Start:
    config = changed(sweep(settings, name).config, {"seed": seeds(name)[0]})
    with tempfile.TemporaryDirectory() as folder:
        made = loop.prepare(config, folder, claim=False)
    run = restore.Finished(made.config, made.setup, made.workdir)
    state: Any = run.setup.initial_state()
    batch = networks.training_batch(run, run.config.batch_size)
    if jax.tree.leaves(state.batch_stats):  # a batch has its own, as in training
        objective = steps.make_objective(
            run.setup.module, state.batch_stats, run.setup.loss, jnp.zeros(())
        )
    else:
        objective = networks.evaluation_objective(run, state, 0.0)
    return Start(objective, state.params, batch, run.config.sam.m or None)


def _choose(start: Start, budget: float) -> float:
    """`choose_rho`; 0 where no radius meets the budget."""
    objective, params, batch, m = start
    try:
        return sam_jax.choose_rho(objective, params, batch, budget=budget, m=m)
    except NoRadius:
        return 0.0


def _carry(
    settings: Settings, name: str, start: Start, rho: float
) -> tuple[float, float]:
    """`carry_rho` of the whole batch's radius, and the noise scale, in examples."""
    scale = sam_jax.gradient_noise_scale(*start[:3]).scale
    noise = float(np.clip(np.nan_to_num(scale, posinf=1e9), 0, 1e9))
    config = sweep(settings, name).config
    m = sweep(settings, SWEEPS[name].whole).config.batch_size
    to = config.sam.m or config.batch_size
    return sam_jax.carry_rho(rho, m=m, to=to, noise_scale=noise), noise


def _rise(settings: Settings, name: str, rho: float) -> float:
    """Of the mean loss over itself, where a sweep starts, by one step of ascent."""
    point = _start(settings, name)[:3]
    found = sharpness.worst_case(*point, rho=rho, method="one_step")
    return found.loss / found.loss_at_w


def _collect(
    settings: Settings, name: str, trained: Mapping[Key, TrainedRun]
) -> dict[str, np.ndarray]:
    """What `comparison` saves of a sweep, without its epochs and seeds."""
    own = {key: run for key, run in trained.items() if key[0] == name}
    found = comparison.collect(
        [sweep(settings, name)],
        seeds(name),
        own,
        figures=place(name).figures,
        curves={},
    )
    return {key: value for key, value in found.items() if key.startswith(f"{name}_")}


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all sweeps; the radii that are chosen and carried, and the noise scale
    by which.
    """
    arrays: dict[str, Any] = {"sweeps": np.array(settings.sweeps)}

    def best(name: str) -> float:
        return comparison.rho(_collect(settings, name, trained), name)

    for name in settings.sweeps:
        arrays |= _collect(settings, name, trained)
        start, one = _start(settings, name), SWEEPS[name]
        found = {"chosen": _choose(start, settings.budget)}
        if one.whole:
            carried, noise = _carry(settings, name, start, best(one.whole))
            found |= {"carried": carried, "noise_scale": noise}
        if one.like:
            found["alike"] = _choose(start, _rise(settings, one.like, best(one.like)))
        arrays |= {f"{name}_{how}": np.array(value) for how, value in found.items()}
    return arrays


def nearest(arrays: Arrays, name: str, how: str) -> int:
    """Which radius of the sweep stands for one of HOW."""
    ratios = arrays[f"{name}_rho"] / arrays[f"{name}_{how}"]
    return int(np.abs(np.log(ratios)).argmin())


def regret(arrays: Arrays, name: str, how: str) -> np.ndarray:
    """Test error at the radius of one of HOW less that of the sweep's best, f[S], in
    the units of the place.
    """
    here = arrays[f"{name}_best"][nearest(arrays, name, how)]
    return place(name).scale * (here - comparison.chosen(arrays, name, "best"))


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Every regret below its margin."""
    for name in map(str, arrays["sweeps"]):
        margin, unit = MARGINS[SWEEPS[name].place], place(name).unit
        for how, function in HOW.items():
            text = f"{SWEEPS[name].label}: regret of {function}, {unit}"
            if arrays.get(f"{name}_{how}", 1) == 0:
                words = "none: no radius meets the budget"
                yield Claim(text, "ours", None, words, f"< {margin:g}", CONTRARY)
            elif f"{name}_{how}" in arrays:
                radii = arrays[f"{name}_rho"]
                there, best = radii[nearest(arrays, name, how)], comparison.rho
                yield Claim.mean(
                    text,
                    "ours",
                    None,
                    regret(arrays, name, how),
                    high=margin,
                    rho=f"{arrays[f'{name}_{how}']:.3g}, nearest {there:g}, best "
                    f"{best(arrays, name):g}",
                )


def plot(arrays: Arrays) -> plotting.Figure:
    """Every sweep, with the radii that were chosen and carried."""
    names = [str(name) for name in arrays["sweeps"]]
    columns = min(2, len(names))
    figure, axes = plotting.panels(-(-len(names) // columns), columns)
    for panel in axes[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(axes, names, strict=False):
        line = {"color": plotting.COLORS[0], "marker": ".", "label": "sweep"}
        errors = place(name).scale * arrays[f"{name}_best"].T
        plotting.band(panel, arrays[f"{name}_rho"], errors, **line)
        for color, how in enumerate(HOW, start=1):
            if arrays.get(f"{name}_{how}", 0) > 0:
                style = {"color": plotting.COLORS[color], "label": HOW[how]}
                panel.axvline(float(arrays[f"{name}_{how}"]), **style)
        panel.set_ylabel(place(name).unit)
        comparison_plots.set_radii(panel, arrays[f"{name}_rho"].tolist())
        panel.set_title(SWEEPS[name].label)
    marks = [panel.get_legend_handles_labels() for panel in axes]
    axes[0].legend(*max(marks, key=lambda m: len(m[1])), frameon=False)
    return figure
