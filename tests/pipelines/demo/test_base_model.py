import json
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.schema.case import Case
from pipelines.demo.abilities import greedy_answers, measure_abilities
from pipelines.demo.base_model import (
    DIRECTORY,
    IGNORED,
    STEPS,
    batches,
    build_model,
    encode,
    rate_factor,
    weights_hash,
)
from pipelines.demo.data import DIRECTORY as DATA
from pipelines.demo.tokenizer import POSITIONS, VOCABULARY
from pipelines.demo.world import tickets_split

RECORD = json.loads((DIRECTORY / "base_model.json").read_text(encoding="utf-8"))
TOKENIZER = AutoTokenizer.from_pretrained(DIRECTORY)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(DIRECTORY, dtype=torch.float32)


def test_weights_match_their_recorded_hash():
    assert weights_hash(DIRECTORY) == RECORD["sha256"]
    assert RECORD["steps"] == STEPS
    assert (DIRECTORY / "model.safetensors").stat().st_size <= 10_000_000


def test_shape_is_small_and_has_room_for_long_text(model):
    assert model.num_parameters() == RECORD["parameters"] <= 5_000_000
    assert model.config.max_position_embeddings == TOKENIZER.model_max_length == POSITIONS
    assert model.config.vocab_size == len(TOKENIZER) == VOCABULARY
    assert model.generation_config.eos_token_id == TOKENIZER.eos_token_id
    assert model.generation_config.do_sample in (None, False)


def test_abilities_are_as_recorded(model):
    """Greedy answers may flip with another machine's rounding: one case in a skill, 1 % overall."""
    measured = measure_abilities(model, TOKENIZER)
    assert measured == pytest.approx(RECORD["accuracy"], abs=1 / 16 + 1e-9)
    mean = sum(measured.values()) / len(measured)
    assert mean == pytest.approx(RECORD["mean_accuracy"], abs=0.01)
    assert mean >= 0.90


def test_the_base_does_not_know_the_vertical(model):
    lines = (DATA / "domain_cases.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [Case.model_validate_json(line) for line in lines[:24]]
    answers = greedy_answers(model, TOKENIZER, cases)
    right = [all(v in a for v in c.checker.values) for c, a in zip(cases, answers, strict=True)]
    assert sum(right) / len(right) < 0.1


@given(st.text())
def test_any_text_survives_the_tokenizer(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_pretraining_trains_every_token_the_vertical_answers_with():
    """Else adapters, which leave the embeddings as they are, could not learn to say them."""
    trained = {
        label
        for _, labels in islice(batches(TOKENIZER, 3), 150)
        for label in set(labels.flatten().tolist())
    }
    jobs, _ = tickets_split(seed=3, train=100, test=0)
    needed = {token for job in jobs for token in TOKENIZER.encode(job.answer)}
    assert TOKENIZER.convert_ids_to_tokens(sorted(needed - trained)) == []


def test_numbers_are_the_same_tokens_everywhere():
    alone = TOKENIZER.encode("37")
    assert len(alone) == 1
    assert TOKENIZER.encode("is 37.")[-2] == alone[0]


def test_chat_template_renders_the_expected_text():
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    ]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False)
    assert text == (
        "<|im_start|>system\nS<|im_end|>\n"
        "<|im_start|>user\nU<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n"
    )
    prompt = TOKENIZER.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == text[: -len("A<|im_end|>\n")]


def test_pretraining_sees_the_template_s_tokens_and_trains_answers_only():
    messages = [
        {"role": "user", "content": "What is 7 + 15?"},
        {"role": "assistant", "content": "22"},
        {"role": "user", "content": "Sort: c a"},
        {"role": "assistant", "content": "a c"},
    ]
    ids, labels = encode(TOKENIZER, messages)
    assert TOKENIZER.decode(ids) == TOKENIZER.apply_chat_template(messages, tokenize=False)
    trained = [label for label in labels if label != IGNORED]
    assert TOKENIZER.decode(trained) == "22<|im_end|>a c<|im_end|>"


def test_batches_repeat_from_their_seed():
    first, again = next(batches(TOKENIZER, 3)), next(batches(TOKENIZER, 3))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_fresh_models_repeat_from_their_seed():
    torch.manual_seed(1)
    first = build_model(TOKENIZER)
    torch.manual_seed(1)
    again = build_model(TOKENIZER)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )


def test_rate_warms_up_and_decays():
    factors = [rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] < 0.05
    assert max(factors) > 0.95
    assert factors[-1] < 0.03
