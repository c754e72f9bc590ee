"""The part of a model that reads and writes text: all of most models, the inside of some.

A model that sees or hears wraps a language model; training here is on text alone, so the rest of it
has nothing to learn and stays as it is.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def language_modules(model: Any) -> list[tuple[str, nn.Module]]:
    """Return the modules that text goes through, with their full names, the output head included.

    Args:
        model: a transformers model that writes text; it needs no weights.
    """
    modules = list(model.named_modules())
    if model.config.get_text_config(decoder=True) is model.config:
        return modules
    inside = {*model.get_decoder().modules(), *model.get_output_embeddings().modules()}
    return [(name, module) for name, module in modules if module in inside]


def freeze_other_senses(model: Any) -> None:
    """Leave only the parameters of the language model trainable, and of those all that were."""
    modules = {module for _, module in language_modules(model)}
    text = {id(p) for module in modules for p in module.parameters(recurse=False)}
    for parameter in model.parameters():
        if id(parameter) not in text:
            parameter.requires_grad_(False)


def expert_parameters(model: Any) -> list[nn.Parameter]:
    """Return the weights of experts that are fused into one tensor each, [experts, ...].

    They are no linear layers, so that no adapter goes on them.
    """
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        parameter
        for _, module in language_modules(model)
        if not isinstance(module, convolutions)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 3
    ]
