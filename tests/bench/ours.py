"""Our trainer over chosen steps of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nlirg.config.training import TrainConfig
from nlirg.forward.batching import EncodedCorpus
from nlirg.training.schedule import Plan
from nlirg.training.trainer import Callbacks, Record, Trainer, TrainingProgress
from tests.bench.measure import Work, user_seconds
from tests.torch_engine import TorchEngine


def silent(log: Callable[[Record], None] = lambda record: None) -> Callbacks:
    """Callbacks that save nothing."""
    return Callbacks(log, checkpoint=lambda progress: None, best=lambda progress: None)


class TrainerSteps:
    """Runs some steps of the trainer's plan, the same ones in each call.

    The trainer can begin at any step; it stops at `max_steps`. One trainer per stretch of steps
    is made before the clock starts.

    Args:
        engine: trained in place, call after call.
        corpus: what is trained.
        config: settings; its `max_steps` is replaced.
        stretches: first step and number of steps of each stretch.
    """

    def __init__(
        self,
        engine: TorchEngine,
        corpus: EncodedCorpus,
        config: TrainConfig,
        stretches: Sequence[tuple[int, int]],
    ) -> None:
        self._engine, self._corpus, self._config = engine, corpus, config
        self._stretches = stretches

    def __call__(self) -> Work:
        """Train the steps."""
        trainers = [self._trainer(first, count) for first, count in self._stretches]
        started = user_seconds()
        progress = [trainer.run(silent()) for trainer in trainers]
        seconds = user_seconds() - started
        return Work(seconds, sum(part.trained_tokens for part in progress))

    def _trainer(self, first: int, count: int) -> Trainer:
        config = self._config.model_copy(update={"max_steps": first + count})
        return Trainer(self._engine, self._corpus, config, 0, progress=TrainingProgress(step=first))


def windows_per_round(corpus: EncodedCorpus, config: TrainConfig) -> int:
    """Steps in which every slot trains one whole sample, where all have equally many windows."""
    return Plan(corpus.n_trained, config, seed=0).total_steps * config.batch_size // len(corpus)
