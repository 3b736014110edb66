"""A run's records in Weights & Biases, MLflow or trackio, beside its own files.

Each is a small class over the public functions of that package, which is imported when
it is asked for. What identifies the run there is kept in the work directory, so that a
run that is resumed goes on as the same one. Project (or experiment), server and account
are the packages' own affair: WANDB_PROJECT, MLFLOW_TRACKING_URI and so on.
"""

import importlib.util
import json
import os
import pathlib
import uuid
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from sam_jax import output
from sam_jax.training.configuration import ConfigError, flatten
from sam_jax.training.errors import TrainingError

PROJECT = "sam_jax"  # where the environment names no other
FILE = "tracker.json"

Config = Mapping[str, Any]


class Tracker(Protocol):
    """Where records go. `identity` finds the run again; JSON values."""

    identity: Any

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Takes the figures of a step."""

    def close(self) -> None:
        """Ends the run there."""


class _Wandb:
    """https://docs.wandb.ai: wandb.init, Run.log, Run.finish."""

    def __init__(self, wandb: ModuleType, name: str, config: Config, identity: Any):
        self.identity = identity or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            id=self.identity,
            resume="allow",
            config=dict(config),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """https://mlflow.org/docs: start_run, log_params, log_metrics, end_run."""

    def __init__(self, mlflow: ModuleType, name: str, config: Config, identity: Any):
        self._mlflow = mlflow
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            mlflow.set_experiment(PROJECT)
        run = mlflow.start_run(run_id=identity, run_name=None if identity else name)
        self.identity = run.info.run_id
        if identity is None:
            mlflow.log_params(flatten(dict(config)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class _Trackio:
    """https://huggingface.co/docs/trackio: trackio.init, Run.log, Run.finish."""

    def __init__(self, trackio: ModuleType, name: str, config: Config, identity: Any):
        self.identity = identity or f"{name}-{uuid.uuid4().hex[:6]}"
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=self.identity,
            resume="allow",
            config=dict(config),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[..., Tracker]] = {
    "wandb": _Wandb,
    "mlflow": _Mlflow,
    "trackio": _Trackio,
}


def told(error: Exception) -> str:
    """An error of a package, in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def check(name: str) -> None:
    """Raises ConfigError unless there is such a tracker, and it is installed."""
    if name and name not in TRACKERS:
        raise ConfigError(
            f"Received --tracker={name!r}; known: {', '.join(TRACKERS)}. JSON lines "
            "and TensorBoard events are always written."
        )
    if name and importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"--tracker={name} needs the package {name}, not installed here: pip "
            f"install {name}, or 'sam_jax[trackers]' for all three."
        )


def start(name: str, workdir: str | os.PathLike[str], config: Config) -> Tracker:
    """Starts a run in a tracker, or goes on with that of this work directory.

    Args:
      name: one of TRACKERS. config: nested, of JSON values.

    Raises: ConfigError as `check`; TrainingError for one that starts no run, such as
      one without its server.
    """
    check(name)
    workdir = pathlib.Path(workdir)
    path = workdir / FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    module = importlib.import_module(name)
    try:
        tracker = TRACKERS[name](module, workdir.name, config, known.get(name))
    except Exception as error:  # every package has errors of its own
        raise TrainingError(f"--tracker={name} starts no run: {told(error)}") from error
    output.write_json(path, known | {name: tracker.identity})
    return tracker
