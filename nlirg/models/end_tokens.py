"""Tokens that end an answer: those its template writes, and those generation stops at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlirg.config.corpus import EncodeConfig
from nlirg.corpus.chat import encode_chat
from nlirg.errors import BadRowError, InputError


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
    def of(tokenizer: Any, directory: Path, config: EncodeConfig) -> End:
        """Ask the template, the tokenizer and `generation_config.json`."""
        stops = {tokenizer.eos_token_id}
        settings = directory / "generation_config.json"
        if settings.is_file():
            given = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id") or []
            stops |= set(given if isinstance(given, list) else [given])
        cpt = config.task == "cpt"
        turn = stops if cpt else stops | {*stop_ids(tokenizer, config.template_options)}
        names = {token: tokenizer.convert_ids_to_tokens(token) for token in turn}
        return End(frozenset(turn), frozenset(stops), names)


def stop_ids(tokenizer: Any, options: dict[str, Any]) -> tuple[int, ...]:
    """Return the template's end-of-turn and the tokenizer's end-of-sequence, which end an answer.

    They differ in many pre-trained models, where training teaches the first.

    Raises:
        InputError: if the template cannot render a conversation.
    """
    turn = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    try:
        end_of_turn = encode_chat(tokenizer, turn, 1 << 16, "skip", options).input_ids[-1]
    except BadRowError as error:
        raise InputError(f"the model's chat template cannot be used: {error}") from None
    return tuple(sorted({end_of_turn, tokenizer.eos_token_id}))
