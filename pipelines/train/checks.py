"""What can be refused about a training run before anything is started for it."""

from __future__ import annotations

from collections.abc import Sequence

from eval.cases.general import guard_passages
from nlirg.config.corpus import DataConfig, ReplayConfig
from nlirg.config.training import ReplayShareConfig, TrainConfig
from nlirg.corpus.arrangement.mixing import MOST_TIMES, check_shares
from nlirg.corpus.sources import Task
from nlirg.errors import InputError
from nlirg.forward.cached_context import check_cacheable
from nlirg.models.export import check_exportable
from nlirg.models.loading import check_vocabulary, load_tokenizer, model_skeleton
from nlirg.models.lora import check_lora
from nlirg.training.objective import check_packable
from nlirg.training.validation import check_held_out
from pipelines.encode.stage import EncodeSummary
from pipelines.replay.prompt_files import read_prompts


def check_training(model: str, name: str, config: TrainConfig, corpus: EncodeSummary) -> None:
    """Hold the settings of a run against its model and its corpus.

    The workers would refuse the same, minutes later and with accelerators reserved.

    Args:
        model: directory or hub id of the base model.
        name: what the recipe calls it.
        config: settings of the run.
        corpus: summary of the encoded corpus.

    Raises:
        InputError: if a LoRA target matches no layer, the adapter to continue is another model's,
            the layers cannot have a short gradient context or packed documents, the teacher's
            vocabulary is another, validation would leave no row to train, or the trained model
            could not be written.
    """
    skeleton = model_skeleton(model)
    tokenizer = load_tokenizer(model, chat=False)
    check_exportable(skeleton, tokenizer, name)
    if config.lora is not None:
        check_lora(skeleton, config.lora, name)
    if corpus.documents is not None:
        check_packable(skeleton.config, config)
    if config.gradient_context != "full":
        check_cacheable(skeleton.config)
    if config.distillation is not None:
        check_vocabulary("train.distillation.teacher", config.distillation.teacher, tokenizer)
    if config.validation is not None:
        check_held_out(config.validation.rows, corpus.rows, corpus.alone)


def check_replay_share(config: ReplayShareConfig, tokens: float, replay: ReplayConfig) -> None:
    """Refuse a share that the base model's answers could not meet, were all of them the longest.

    Args:
        config: of the arm.
        tokens: of the corpus that an epoch trains.
        replay: what the base model answers.

    Raises:
        InputError: with the remedy.
    """
    prompts = len(read_prompts(replay.prompts))
    most = prompts * replay.max_new_tokens * MOST_TIMES
    wanted = tokens * config.share / (1 - config.share)
    if wanted > most:
        raise InputError(
            f"train.replay.share {config.share:g} takes {wanted:,.0f} tokens an epoch, and "
            f"{prompts} prompts give at most {most:,} when each answer is seen {MOST_TIMES} times: "
            "lower it, or give more replay.prompts"
        )


def check_keeping(data: Sequence[DataConfig], config: TrainConfig, task: Task) -> None:
    """Refuse mixing, replay or a guard that plain text or the settings do not allow.

    Raises:
        InputError: naming the key, and a remedy.
    """
    check_shares(data)
    if config.guard is not None:
        guard_passages(config.guard.general)
    if task == "sft":
        return
    if any(source.task_types for source in data):
        raise InputError(
            "data.task_types: packs of plain text hold documents of several task types: make a "
            "source of each and give it a weight"
        )
    if config.replay is not None:
        raise InputError(
            "train.replay: a base model that is trained on plain text (encode.task cpt) answers no "
            "prompts: mix in general text as a source with a weight"
        )
    if config.guard is not None and config.guard.metric == "kl":
        raise InputError(
            "train.guard.metric kl is measured on answers, and encode.task cpt has none: set it "
            "to loss"
        )
