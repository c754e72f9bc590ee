"""Chat templates as models publish them, from installed packages, with tokenizers for them."""

import re
from functools import cache
from pathlib import Path

import trl
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.byte_tokenizer import byte_tokenizer

# What looks like a token of a template's own; "<think>" and "<tool_call>" are plain words of most
# vocabularies.
MARKERS = re.compile(
    r"<\|[^|>\s']{1,40}\|>|<｜[^｜>]+｜>|\[/?[A-Z_]{3,}\]|<(?:start|end)_of_turn>|</?s>|<bos>|<eos>"
    r"|<\|turn>|<turn\|>|<\|[a-z_]+>|<[a-z_]+\|>|<SPECIAL_\d+>|<end_of_utterance>"
)
VLLM = Path("vllm/transformers_utils/chat_templates")


@cache
def published() -> dict[str, str]:
    """Name -> text of every template that is not another's twin."""
    packages = Path(trl.__file__).parent.parent
    files = sorted([*packages.glob("trl/chat_templates/*.jinja"), *packages.glob(f"{VLLM}/*")])
    texts: dict[str, str] = {}
    for path in files:
        if path.suffix == ".jinja" and not path.stem.endswith("_training"):
            texts.setdefault(path.read_text(encoding="utf-8"), path.stem)
    return {name: text for text, name in texts.items()}


@cache
def _bytes() -> str:
    texts = ["the part lies on the shelf\n\nuser assistant\n"] * 4
    return byte_tokenizer(texts, 400, ["<s>", "</s>"]).to_str()


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a template, and its markers as special tokens."""
    tokenizer = Tokenizer.from_str(_bytes())
    markers = sorted(set(MARKERS.findall(template)) - {"<s>", "</s>"})
    tokenizer.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in markers])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template, bos_token="<s>", eos_token="</s>"
    )
