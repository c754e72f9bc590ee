"""Paraphrases that the base model writes itself: what it is asked, and which of them are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.cases.perturbations.slots import case_facts, slot_fault
from eval.cases.perturbations.text import is_chinese
from eval.cases.suites import perturbed_case
from eval.generation.generate import Completion, Key, Prompt, Request, render, request_seed
from eval.schema.case import Case, Message
from eval.text import normalize
from nlirg.chat.encoder import ChatEncoder

PERTURBATION = "model_paraphrase"
TRIES = 2  # asked for each one wanted: small models often lose a fact
LENGTH_RATIO = (0.5, 2.0)  # of the original's characters
TOKENS_RATIO = 2  # a paraphrase that needs more of the original's tokens is too long anyway
TEMPERATURE = 0.8

_ORDER = """Rewrite the text between the lines in other words. It must ask for exactly the same \
thing. Keep every name, number, code and quotation as it is. Do not answer it. Write only the new \
text.
-----
{text}
-----"""
_ORDER_ZH = """请换一种说法改写两条横线之间的文字，要求的内容必须完全相同。\
所有名称、数字、编号和引用原样保留。不要回答它，只写出改写后的文字。
-----
{text}
-----"""


@dataclass(frozen=True)
class Paraphrases:
    """The kept paraphrases as cases, how many were asked for, and why the others were dropped."""

    cases: list[Case]
    asked: int
    dropped: dict[str, int]


def paraphrase_prompts(chat: ChatEncoder, domain: Iterable[Case], n: int) -> list[Prompt]:
    """Ask for `TRIES * n` paraphrases of every case's last message; the ids tell them apart."""
    orders = [
        case.model_copy(
            update={
                "id": _perturbed_id(case, number),
                "messages": (Message(role="user", content=_order(case.messages[-1].content)),),
                "suite": "robustness",
            }
        )
        for case in domain
        for number in range(TRIES * n)
    ]
    return render(chat, orders)


def _perturbed_id(case: Case, number: int) -> str:
    return f"{case.id}~{PERTURBATION}{number}"


def _order(text: str) -> str:
    return (_ORDER_ZH if is_chinese(text) else _ORDER).format(text=text)


def paraphrase_requests(prompts: Iterable[Prompt], context: int, seed: int) -> list[Request]:
    """Sampled requests, each with a seed of its own; prompts without room for an answer are none.

    Args:
        prompts: from `paraphrase_prompts`.
        context: tokens the model can hold, prompt and answer together.
        seed: of the recipe.
    """
    requests = []
    for prompt in prompts:
        room = min(TOKENS_RATIO * len(prompt.ids), context - len(prompt.ids))
        if prompt.ids and room > 0:
            own_seed = request_seed(prompt, seed)
            requests.append(Request(prompt.key, prompt.ids, room, TEMPERATURE, own_seed))
    return requests


def keep_paraphrases(
    domain: Sequence[Case], n: int, completions: Mapping[Key, Completion]
) -> Paraphrases:
    """Choose up to n paraphrases of every case.

    The others are counted by reason: "not asked", "not finished", "empty", "unchanged",
    "repeated", "too short", "too long", what `slot_fault` says, or "not needed" once there are n.
    """
    cases: list[Case] = []
    dropped: Counter[str] = Counter()
    for case in domain:
        said: list[str] = []
        for number in range(TRIES * n):
            perturbed_id = _perturbed_id(case, number)
            completion = completions.get(("robustness", perturbed_id))
            text = _clean(completion.text) if completion else ""
            reason = _unusable(completion) or _fault(case, text, said)
            if reason or len(said) == n:
                dropped[reason or "not needed"] += 1
                continue
            said.append(text)
            cases.append(perturbed_case(case, text, PERTURBATION, perturbed_id))
    return Paraphrases(cases, TRIES * n * len(domain), dict(dropped))


def _unusable(completion: Completion | None) -> str:
    if completion is None:
        return "not asked"
    return "" if completion.finish_reason == "stop" else "not finished"


def _fault(case: Case, text: str, said: Sequence[str]) -> str:
    """Why a text cannot stand for a case's last message; "" if it can."""
    original = case.messages[-1].content
    if not text:
        return "empty"
    if normalize(text) == normalize(original):
        return "unchanged"
    if normalize(text) in map(normalize, said):
        return "repeated"
    shortest, longest = LENGTH_RATIO
    if not shortest <= len(text) / len(original) <= longest:
        return "too short" if len(text) < len(original) else "too long"
    return slot_fault(original, text, case_facts(case))


def _clean(text: str) -> str:
    """Without the lines that the order put around the text."""
    return text.strip().removeprefix("-----").removesuffix("-----").strip()
