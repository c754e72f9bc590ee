"""A scorer that tells what it scores, and faults that meet it while it does."""

import json
import os
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

from pipelines.recipe import load_recipe
from pipelines.score import stage
from pipelines.store import open_run
from tests.bench.corpus.scale import CheapScorer
from tests.road import score

WINDOW_ROWS = 8  # small windows, so that a small corpus is scored in many calls


class NotingScorer(CheapScorer):
    """Notes the rows of every call before it scores them, slowly."""

    def __init__(self, log: Path, seconds: float) -> None:
        self.log, self.seconds = log, seconds

    def score(self, samples, names=None):
        with self.log.open("a") as log:  # one write of one line is atomic
            log.write(json.dumps({"pid": os.getpid(), "names": list(names)}) + "\n")
        time.sleep(self.seconds)
        return super().score(samples, names)


def make_noting_scorer(log: Path, seconds: float, model, config) -> NotingScorer:
    """What `score` makes in an actor, once the first two are bound."""
    return NotingScorer(log, seconds)


def calls(log: Path) -> list[dict]:
    """The calls noted so far: the actor's `pid`, and `names` of the rows."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def times_scored(log: Path) -> Counter[str]:
    """How often each row has been given to a scorer."""
    return Counter(name for call in calls(log) for name in call["names"])


def score_slowly(recipe_path: Path, log: Path, seconds: float) -> dict:
    """Score a recipe's corpus with a scorer that notes what it does in `log`."""
    recipe = load_recipe(recipe_path)
    return score(recipe, open_run(recipe), partial(make_noting_scorer, log, seconds))


def kill_actor(log: Path, folder: Path, pids: list[int]) -> int | None:
    """Kill the actor of the newest call once some files are written; returns its process id."""
    written = list(folder.glob("*.parquet"))
    if len(written) < 3:
        return None
    pid = calls(log)[-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    pids.append(pid)
    return pid


if __name__ == "__main__":
    stage.WINDOW_ROWS = WINDOW_ROWS
    score_slowly(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
