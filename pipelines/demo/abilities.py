"""What the base model can do: exact-match accuracy per skill on the committed held-out cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eval.schema import Case
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
            [message.model_dump() for message in case.messages]
            for case in cases[start : start + BATCH]
        ]
        inputs = tokenizer.apply_chat_template(
            prompts,
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
            tokenizer_kwargs={"padding_side": "left"},
        )
        with torch.no_grad():
            output = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
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
