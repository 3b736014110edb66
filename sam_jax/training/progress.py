"""What a run tells the terminal while it goes: a bar, or lines where there is none."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from sam_jax import output


class Progress:
    """Steps done, loss and errors, rate and time left.

    On a terminal a bar; in a file or pipe one line an evaluation; nothing if silent.
    """

    def __init__(self, *, steps: int, done: int, label: str, silent: bool = False):
        """Starts to count.

        Args:
          steps: of the whole run. done: those of an earlier start of it.
          label: what runs.
        """
        self._steps, self._done, self._label = steps, done, label
        self._start, self._start_done = time.monotonic(), done
        self._figures = {"loss": "-", "error": "-"}
        self._silent = silent
        self._bar = None
        if not silent and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=steps, initial=done, desc=label, unit="step", dynamic_ncols=True
            )

    def step(self, measured: Mapping[str, float]) -> None:
        """One more step is done; `measured` is that of the step before."""
        self._done += 1
        self._figures["loss"] = f"{measured['loss']:.3f}"
        self._figures["error"] = output.percent(measured["error"])
        if self._bar is not None:
            self._bar.set_postfix(self._figures, refresh=False)
            self._bar.update()

    def evaluation(self, epoch: int, record: Mapping[str, Any]) -> None:
        """An epoch was evaluated."""
        for part in ("validation", "test"):
            if f"{part}_error" in record:
                self._figures[part] = output.percent(record[f"{part}_error"])
        if self._bar is None and not self._silent:
            figures = "  ".join(
                f"{name} {value}" for name, value in self._figures.items()
            )
            print(
                f"{self._label}: epoch {epoch}  {figures}  {self._pace()}",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _pace(self) -> str:
        seconds = time.monotonic() - self._start
        rate = (self._done - self._start_done) / max(seconds, 1e-9)
        left = (self._steps - self._done) / max(rate, 1e-9)
        return f"{rate:.1f} steps/s  {left:.0f} s left"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
