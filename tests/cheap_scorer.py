"""Scorers of tests that look at no score: an actor with one loads neither torch nor a model."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nlirg.config.corpus import ScoreConfig
from nlirg.labels import IGNORE
from nlirg.scoring.scores import TokenScores


class CheapScorer:
    """Scores from the token ids alone; the same ids give the same scores."""

    def score(
        self, samples: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str] | None = None
    ) -> list[TokenScores]:
        """As `nlirg.scoring.scorer.Scorer.score`."""
        scores = []
        for _, labels in samples:
            ids = labels[1:][labels[1:] != IGNORE]
            loss = (ids % 97 / 20).astype(np.float32)
            scores.append(TokenScores(loss, (ids % 31 / 10).astype(np.float32), loss + 1))
        return scores


def cheap_scorer(model: str, config: ScoreConfig) -> CheapScorer:
    """What the stage makes in every actor."""
    return CheapScorer()


class NotingScorer(CheapScorer):
    """Notes the rows of every call before it scores them, slowly."""

    def __init__(self, log: Path, seconds: float) -> None:
        self.log, self.seconds = log, seconds

    def score(self, samples, names=None):
        with self.log.open("a") as log:  # one write of one line is atomic
            log.write(json.dumps({"pid": os.getpid(), "names": list(names)}) + "\n")
        time.sleep(self.seconds)
        return super().score(samples, names)


def noting_scorer(log: Path, seconds: float, model: str, config: ScoreConfig) -> NotingScorer:
    """What the stage makes in every actor, once the first two are bound."""
    return NotingScorer(log, seconds)
