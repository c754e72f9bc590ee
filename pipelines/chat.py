"""The chat encoder of a recipe, loaded once a process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from nlirg.config.corpus import EncodeConfig
from pipelines.recipe import Recipe

if TYPE_CHECKING:
    from nlirg.chat.encoder import ChatEncoder


def chat_of(recipe: Recipe) -> ChatEncoder:
    """Return what turns the recipe's conversations, or plain text, into its model's tokens.

    Raises:
        InputError: if the model has no tokenizer, or no chat template where one is needed.
    """
    return _loaded(recipe.model, recipe.encode.model_dump_json(), recipe.template)


@cache
def _loaded(model: str, encode: str, template: str | None) -> ChatEncoder:
    from nlirg.models.chat import load_chat

    return load_chat(model, EncodeConfig.model_validate_json(encode), template)
