"""Writing a trained model or adapter so that `transformers` and `peft` load it as it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from nlirg.atomic_io import atomic_directory
from nlirg.errors import InputError, first_line
from nlirg.models.loading import load_model, load_tokenizer

GENERATION_SETTINGS = "generation_config.json"
# How a model that sees or hears is to be shown things; vLLM does not load it without.
SENSES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")

Gather = Callable[[nn.Parameter], AbstractContextManager[Any]]


def _here(_: nn.Parameter) -> AbstractContextManager[Any]:
    """Gather nothing: every parameter is whole on this rank."""
    return nullcontext()


def export_model(
    model: Any, tokenizer: Any, directory: Path, gather: Gather = _here, writes: bool = True
) -> None:
    """Collect the weights on every rank, and write them on one.

    Sharded parameters are gathered one at a time, so that a rank needs room for one whole
    parameter and the writing rank for one copy of what is written, in main memory.

    Args:
        model: a transformers model, or a peft model (then the adapter alone is written).
        tokenizer: written beside the weights, with its chat template.
        directory: replaced whole, in one rename.
        gather: context in which a parameter is whole on this rank.
        writes: whether this rank writes.

    Raises:
        InputError: where `writes`, if a weight is not finite; `directory` is left as it was.
    """
    state = collect_state(model, gather, keep=writes)
    if not writes:
        return
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(
            f"training diverged: {len(broken)} tensors hold NaN or infinity ({broken[0]}, ...); "
            "lower train.learning_rate or set train.max_grad_norm"
        )
    _save(model, tokenizer, directory, state_dict=state, **_peft_options(model))


def export_merged(base: str, adapter: Path, directory: Path) -> None:
    """Write a base model and an adapter as one full model, on the CPU, from what is on disk.

    Works beside a model that is sharded over many ranks: call it on one of them, after the adapter
    was exported. Every layer is merged in float32 and kept in the base's stored dtype, so that main
    memory holds the base once, and one layer in float32.

    Args:
        base: directory or hub id of the base model.
        adapter: directory written by `export_model`, with its tokenizer.
        directory: replaced whole, in one rename.

    Raises:
        InputError: if a merged weight is not finite; `directory` is left as it was.
    """
    import peft

    # peft loads the adapter in float32 whatever the base is.
    adapted = peft.PeftModel.from_pretrained(load_model(base, "auto"), adapter, torch_device="cpu")
    for name, module in adapted.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            _merge_layer(name, module)
    _save(adapted.unload(), load_tokenizer(str(adapter), chat=False), directory)


def _merge_layer(name: str, layer: Any) -> None:
    weight = layer.get_base_layer().weight
    stored = weight.dtype
    weight.data = weight.data.float()
    layer.merge()
    weight.data = weight.data.to(stored)
    if not torch.isfinite(weight).all():
        raise InputError(
            f"merging the adapter: {name} comes out with NaN or infinity in {stored}; use the "
            "adapter as it is"
        )


def _save(model: Any, tokenizer: Any, directory: Path, **options: Any) -> None:
    """Write model and tokenizer; a whole model's other settings are passed on as its base has them.

    Many published settings of generation are refused by transformers when it is to write them.
    """
    passed_on = []
    if not hasattr(model, "peft_config"):
        base = Path(model.config.name_or_path)
        passed_on = [p for n in (GENERATION_SETTINGS, *SENSES) if (p := base / n).is_file()]
        if any(path.name == GENERATION_SETTINGS for path in passed_on):
            model.generation_config = GenerationConfig()
    with atomic_directory(directory) as temporary:
        model.save_pretrained(temporary, **options)
        tokenizer.save_pretrained(temporary)
        for path in passed_on:
            copyfile(path, temporary / path.name)


def check_exportable(model: Any, tokenizer: Any, name: str) -> None:
    """Write once what an export holds beside the weights, before anything is trained.

    Args:
        model: as it is to be trained; it needs no weights.
        tokenizer: of it.
        name: what the recipe calls it.

    Raises:
        InputError: if transformers would refuse to write the trained model.
    """
    with TemporaryDirectory() as folder:
        try:
            model.config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        except (ValueError, TypeError, OSError) as error:
            raise InputError(
                f"model {name}: transformers cannot write its settings again, so that a trained "
                f"model would be lost; correct its config.json: {first_line(error)}"
            ) from None


def collect_state(model: Any, gather: Gather = _here, keep: bool = True) -> dict[str, Tensor]:
    """Copy the weights that an export holds to main memory; empty where not `keep`.

    Tied weights appear once, under the name that comes first; loading ties them again.
    """
    adapter = hasattr(model, "peft_config")
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if adapter and not parameter.requires_grad:
            continue
        with gather(parameter):
            if keep:
                state[name] = parameter.detach().to("cpu", copy=True)
    if keep and not adapter:
        names = model.state_dict().keys()  # leaves out buffers that are not persistent
        state |= {name: b.detach().cpu() for name, b in model.named_buffers() if name in names}
    return state


def _peft_options(model: Any) -> dict[str, Any]:
    """Return peft's options: embeddings are never trained; its own guess would look up the base."""
    return {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
