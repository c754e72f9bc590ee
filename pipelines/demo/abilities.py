"""What the base model can do: exact-match accuracy per skill on the committed held-out cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eval.schema.case import Case
from pipelines.demo.data import CASES_PER_SKILL, SEED
from pipelines.demo.world import skill_cases

MAX_NEW_TOKENS = 32
BATCH = 52


def greedy_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cases: Sequence[Case]
) -> list[str]:
    """The greedy answer to every case, batched with padding on the left."""
    model.eval()
    answers: list[str] = []
    for start in range(0, len(cases), BATCH):
        prompts = [
            tokenizer.apply_chat_template(
                [message.model_dump() for message in case.messages],
                tokenize=False,
                add_generation_prompt=True,
            )
            for case in cases[start : start + BATCH]
        ]
        inputs = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
        with torch.no_grad():
            output = model.generate(  # type: ignore[operator]
                **inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
    return answers


def measure_abilities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, float]:
    """Share of exactly right greedy answers, by skill."""
    cases = skill_cases(SEED, CASES_PER_SKILL)
    right = defaultdict(list)
    for case, answer in zip(cases, greedy_answers(model, tokenizer, cases), strict=True):
        right[case.task_type].append(answer == case.reference)
    return {skill: sum(marks) / len(marks) for skill, marks in right.items()}
