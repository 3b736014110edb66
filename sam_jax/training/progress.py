"""What a run tells the terminal while it goes: a bar, or lines where there is none."""

import collections
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from sam_jax import output

COUNTED = 100  # the newest steps, whose mean time is the pace
OUTLIER = 5.0  # a step that takes so many times the median compiles, or waits
FIRST = 5  # steps after which a pipe is told for how long
EVERY = 60.0  # seconds after which a pipe is told again, within a long epoch


class Progress:
    """Steps done, loss and errors, rate and time left.

    On a terminal a bar; in a file or pipe a line at the start, one after the first
    steps, and one an epoch, or a minute; nothing if silent. "batch" is the training
    batch of the last step, with its noisy labels and its augmentation; "validation" and
    "test" are those whole sets.
    """

    def __init__(
        self,
        *,
        steps: int,
        done: int,
        label: str,
        epoch_steps: int,
        silent: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts to count.

        Args:
          steps: of the whole run. done: those of an earlier start of it.
          label: what runs.
          epoch_steps: steps an epoch, after which evaluation and saving take time too.
          clock: seconds since any moment.
        """
        self._steps, self._done, self._label = steps, done, label
        self._epoch_steps, self._clock = epoch_steps, clock
        self._last = self._told = clock()
        self._step_times: collections.deque[float] = collections.deque(maxlen=COUNTED)
        self._pauses: list[float] = []
        self._figures = {"batch loss": "-", "batch error": "-"}
        self._silent, self._counted = silent, 0
        self._bar = None
        if silent:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=steps,
                initial=done,
                desc=label,
                dynamic_ncols=True,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
                "[{elapsed}{postfix}]",
            )
        elif done < steps:
            already = f"{done} of them done before; " if done else ""
            self._say(f"{steps} steps; {already}compiling the first")

    def step(self, measured: Mapping[str, float]) -> None:
        """One more step is done; `measured` is that of the step before."""
        now = self._clock()
        self._step_times.append(now - self._last)
        self._last = now
        self._done += 1
        self._counted += 1
        self._figures["batch loss"] = f"{measured['loss']:.3f}"
        self._figures["batch error"] = output.percent(measured["error"])
        if self._bar is not None:
            self._bar.set_postfix(
                {**self._figures, "left": self._left()}, refresh=False
            )
            self._bar.update()
        elif self._counted == FIRST or (
            self._counted > 1 and now - self._told > EVERY  # the first one compiled
        ):
            self._say(f"step {self._done} of {self._steps}  {self._pace()}")

    def evaluation(self, epoch: int, record: Mapping[str, Any]) -> None:
        """An epoch is over, and was evaluated if the record says so."""
        now = self._clock()
        self._pauses.append(now - self._last)
        self._last = now
        for part in ("validation", "test"):
            if f"{part}_error" in record:
                name = f"{part} error"
                self._figures[name] = output.percent(record[f"{part}_error"])
        figures = "  ".join(f"{name} {value}" for name, value in self._figures.items())
        if self._bar is None:
            self._say(f"epoch {epoch}  {figures}  {self._pace()}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _say(self, text: str) -> None:
        if not self._silent:
            print(f"{self._label}: {text}", file=sys.stderr, flush=True)
            self._told = self._clock()

    def _step_seconds(self) -> float:
        """Mean time of the newest steps, without those that had to be compiled first"""
        if not self._step_times:
            return 0.0
        limit = OUTLIER * statistics.median(self._step_times)
        return statistics.fmean(t for t in self._step_times if t <= limit)

    def _seconds_left(self) -> float:
        """By the time of a step, and of the pauses at the end of an epoch."""
        left = self._steps - self._done
        pauses = self._pauses[1:] or [0.0]  # the first one compiles
        epochs = left / self._epoch_steps
        return left * self._step_seconds() + epochs * statistics.median(pauses)

    def _left(self) -> str:
        return duration(self._seconds_left()) if self._counted > 1 else "-"

    def _pace(self) -> str:
        rate = 1 / max(self._step_seconds(), 1e-9)
        return f"{rate:.1f} steps/s  {self._left()} left"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """42 s, 12 min, 3.4 h: two digits are enough for an estimate."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
