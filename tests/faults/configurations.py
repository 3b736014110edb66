"""Random configurations: each is refused in a line, or a step of it can be taken."""

import contextlib
import pathlib
import shutil
from typing import Any

import hypothesis
import jax
from hypothesis import strategies as st

from sam_jax.training import loop
from sam_jax.training.errors import TrainingError
from sam_jax.training.keys import KEYS
from sam_jax.transforms import VARIANTS
from tests.faults.outcome import Outcome
from tests.training.problems import tiny

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2, 3, 10**9, 2**31, 2**32, 2**63, 10**400, -1]),
    st.floats(),
    st.sampled_from([0.0, 0.5, 1.0, 1e-300, 1e300, -0.0]),
    st.text(max_size=8),
    st.lists(st.integers(-1, 12), max_size=3),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=1),
)
POOL = (
    *(0, 1, 2, 3, 4, 8, 16, 32, 64, 128, 0.01, 0.1, 0.5, 0.9, 1.5, True, False),
    *((), (8,), (0, 1), (*range(1, 10), 0), ("0", "1", "2")),
    *("digits", "linear", "mlp", "conv_net", "batch", "group", "float32", "bfloat16"),
    *("sgd", "adam", "cross_entropy", "generalized_cross_entropy", "constant"),
    *("binary_cross_entropy", "hinge", "cosine", "relu", "tanh", "erm", *VARIANTS),
    *("none", "adversarial", "trades", "l2", "linf", "uniform", "asymmetric", "clean"),
)


def _allowed(name: str) -> list[Any]:
    """Values of the pool that a key takes by itself."""
    values = [KEYS[name].default]
    for value in POOL:
        with contextlib.suppress(TypeError, ValueError):
            KEYS[name].convert(value)
            values.append(value)
    return values


@st.composite
def changes(draw: Any) -> dict[str, Any]:
    """One to five keys, most of them at values that they take by themselves."""
    names = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=5))
    odd = draw(st.integers(0, 3)) == 0
    return {
        name: draw(ODD if odd else st.sampled_from(_allowed(name))) for name in names
    }


def configurations(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """Some keys of a small run at random values; most are refused."""
    lost: list[str] = []
    counts = {"refused": 0, "prepared": 0, "trained": 0}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=tries,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(changes())
    def each(chosen: dict[str, Any]) -> None:
        why = _one(chosen, folder / "run", counts)
        lost.extend([f"{chosen}: {why}"] if why else [])

    each()
    note = ", ".join(f"{count} {what}" for what, count in counts.items())
    return Outcome("a random configuration", sum(counts.values()), lost, note)


def _one(changes: dict[str, Any], workdir: pathlib.Path, counts: dict) -> str:
    """What is wrong with how a configuration is taken; "" for nothing."""
    shutil.rmtree(workdir, ignore_errors=True)
    config = tiny(epochs=1, batch_size=32, model__dtype="float32").to_dict()
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    counts["refused"] += 1
    try:
        run = loop.prepare(config, workdir)
        counts["refused"] -= 1
        counts["prepared"] += 1
        if _is_small(run):
            loop.train(run, silent=True)
            counts["prepared"] -= 1
            counts["trained"] += 1
    except (ValueError, TrainingError, OSError) as error:
        return "" if len(str(error).splitlines()) == 1 else f"says {str(error)[:300]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        if counts["prepared"] % 50 == 49:
            jax.clear_caches()
    return ""


def _is_small(run: loop.Run) -> bool:
    """Whether it trains in a second."""
    config = run.config
    return (
        config.model.name == "linear"
        and config.epochs == 1
        and config.batch_size >= 16
        and config.attack.steps * max(config.attack.eval_steps, 1) < 50
        and config.eval.batch_size >= 100
        and config.sam.ascent_steps < 10
    )
