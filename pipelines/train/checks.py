"""What can be refused about a training run before anything is started for it."""

from __future__ import annotations

from nlirg.config.training import TrainConfig
from nlirg.forward.cached_context import check_cacheable
from nlirg.models.export import check_exportable
from nlirg.models.loading import check_vocabulary, load_tokenizer, model_skeleton
from nlirg.models.lora import check_lora
from nlirg.training.objective import check_packable
from nlirg.training.validation import check_held_out
from pipelines.encode.stage import EncodeSummary


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
        check_held_out(config.validation.rows, corpus.rows)
