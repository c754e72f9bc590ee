"""Progress of long work: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_EVERY_S = 5.0
STILL_EVERY_S = 30.0  # without any progress: a sign of life


def say(stage: str, text: str) -> None:
    """Print one line of a stage."""
    tqdm.write(f"[{stage}] {text}", file=sys.stderr)


class Progress:
    """Counts done work of a known or unknown total.

    Example:
        with Progress("train nlirg", total=683, unit="step") as progress:
            progress.to(12, "loss 2.31")
    """

    def __init__(self, stage: str, total: int | None = None, unit: str = "row") -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.done = 0
        self._shown = 0
        self._terminal = sys.stderr.isatty()
        self._last = self._started = time.monotonic()
        self._bar = tqdm(
            total=total, desc=stage, unit=unit, disable=not self._terminal, file=sys.stderr
        )

    def __enter__(self) -> Progress:
        return self

    def to(self, done: int, note: str = "") -> None:
        """Set the amount of work done so far."""
        self._bar.update(done - self.done)
        self.done = done
        if note:
            self._bar.set_postfix_str(note)
        now = time.monotonic()
        pause = STILL_EVERY_S if done == self._shown else LINE_EVERY_S
        if not self._terminal and now - self._last >= pause:
            self._last, self._shown = now, done
            say(self.stage, self._line(note))

    def _line(self, note: str) -> str:
        of = f"/{self.total}" if self.total is not None else ""
        seconds = time.monotonic() - self._started
        return f"{self.done}{of} {self.unit}s, {seconds:.0f} s{', ' + note if note else ''}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if kind is None:
            say(self.stage, self._line("done"))
