"""The chat encoder of a model folder, and the tokens that end an answer."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlirg.chat.encoder import ChatEncoder
from nlirg.config.corpus import EncodeConfig
from nlirg.errors import BadRowError, InputError
from nlirg.models.loading import load_tokenizer, model_directory


def load_chat(path: str, config: EncodeConfig, template: str | None = None) -> ChatEncoder:
    """Load what turns conversations, or plain text, into a model's tokens.

    Args:
        path: a local directory or a Hugging Face hub id.
        config: of the encoding.
        template: chat template that replaces the model's.

    Raises:
        InputError: as `nlirg.models.loading.load_tokenizer`, or if the template reads no such
            option.
    """
    chat = config.task == "sft"
    tokenizer = load_tokenizer(path, chat=chat, template=template)
    if chat:
        _check_options(tokenizer, config.template_options)
    stops = _generation_ends(model_directory(path))
    return ChatEncoder(tokenizer, config.template_options, stops, config.date)


def _check_options(tokenizer: Any, options: Mapping[str, Any]) -> None:
    """Refuse options whose names stand nowhere in the chat template."""
    known = set(re.findall(r"[A-Za-z_]\w*", str(tokenizer.chat_template)))
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"encode.template_options: the chat template reads no {name!r}{meant}")


def _generation_ends(directory: Path) -> list[int]:
    """Return the tokens at which a model's own settings end a generation."""
    settings = directory / "generation_config.json"
    try:
        given = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id") or []
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError) as error:
        raise InputError(f"{settings}: is no JSON object: {error}") from None
    return given if isinstance(given, list) else [given]


def stop_ids(chat: ChatEncoder) -> tuple[int, ...]:
    """Return every token at which an answer ends, sorted: the template's and the model's own.

    They differ in many pre-trained models, where training teaches the first.

    Raises:
        InputError: if the template cannot render a conversation.
    """
    try:
        return tuple(sorted({chat.end_of_turn, *chat.stops}))
    except BadRowError as error:
        raise InputError(f"the model's chat template cannot be used: {error}") from None


@dataclass(frozen=True)
class End:
    """Tokens that end an answer.

    Attributes:
        turn: the template's end-of-turn, and `stops`.
        stops: those at which the model's own settings stop a generation.
        names: their texts.
    """

    turn: frozenset[int]
    stops: frozenset[int]
    names: dict[int, str]

    @staticmethod
    def of(chat: ChatEncoder, config: EncodeConfig) -> End:
        """Ask the template, the tokenizer and `generation_config.json`."""
        turn = chat.stops if config.task == "cpt" else frozenset(stop_ids(chat))
        names: dict[int, Any] = {
            token: chat.tokenizer.convert_ids_to_tokens(token) for token in turn
        }
        return End(turn, chat.stops, names)
