"""The transformers engine on a tiny model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from eval.config import EvaluateConfig
from eval.generation.adapters import check_adapter
from eval.generation.engines import build_engine, chunk_requests
from eval.generation.generate import EngineSpec, Request
from eval.generation.transformers_engine import TransformersEngine

ASKED = [Request(("domain", str(i)), (5, 6, 7 + i), 12, 0.0, seed=i) for i in range(3)]


@pytest.fixture(scope="module")
def spec(tiny_model_dir, tmp_path_factory) -> EngineSpec:
    path = tmp_path_factory.mktemp("lora") / "a"
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model_dir), config).save_pretrained(
        path
    )
    adapter = check_adapter("a", path, tiny_model_dir)
    model = str(tiny_model_dir)
    return EngineSpec(model, model, "cpu", 64, (2,), (adapter,), engine="transformers")


@pytest.fixture(scope="module")
def engine(spec) -> TransformersEngine:
    built = build_engine(spec)
    assert isinstance(built, TransformersEngine)
    return built


def test_base_answers_are_those_of_the_model_without_adapters(spec, engine) -> None:
    alone = TransformersEngine(replace(spec, adapters=()))
    plain = alone.generate(ASKED, None)
    assert engine.generate(ASKED, "a") != plain
    assert engine.generate(ASKED, None) == plain


def test_names_of_adapters_may_hold_dots(spec, engine) -> None:
    """Those of arms at a scale do, and peft's may not."""
    (adapter,) = spec.adapters
    twice = (replace(adapter, name="a@0.5"), replace(adapter, name="b.c"))
    named = TransformersEngine(replace(spec, adapters=twice))
    for name in ("a@0.5", "b.c"):
        assert named.generate(ASKED, name) == engine.generate(ASKED, "a")


def test_answers_end_at_the_limit_or_at_an_end_token(spec, engine) -> None:
    limited = engine.generate(ASKED, None)
    assert {(len(one.token_ids), one.finish_reason) for one in limited} == {(12, "length")}
    token = limited[0].token_ids[4]
    end = limited[0].token_ids.index(token)
    stopping = TransformersEngine(replace(spec, adapters=(), stop_ids=(token,)))
    stopped = stopping.generate(ASKED[:1], None)[0]
    assert (stopped.finish_reason, stopped.token_ids) == ("stop", limited[0].token_ids[: end + 1])


def test_sampling_repeats_with_its_seed_whatever_is_asked_beside_it(engine) -> None:
    sampled = [replace(one, temperature=1.0) for one in ASKED]
    before = torch.random.get_rng_state()
    answers = engine.generate(sampled, None)
    assert engine.generate(sampled[::-1], None)[::-1] == answers
    assert engine.generate([replace(sampled[0], seed=9)], None)[0] != answers[0]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_broken_weights_are_an_error_and_not_an_answer(spec, tiny_model_dir, tmp_path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    broken = TransformersEngine(replace(spec, model=str(Path(tmp_path)), adapters=()))
    with pytest.raises(FloatingPointError, match="NaN"):
        broken.generate(ASKED[:1], None)
    with pytest.raises(FloatingPointError, match="not finite"):
        broken.generate(RANKED[:1], None)


def test_a_slow_engine_gets_less_at_a_time(spec) -> None:
    assert chunk_requests(spec) < chunk_requests(replace(spec, engine="vllm"))


def test_several_gpus_for_one_engine_need_vllm() -> None:
    with pytest.raises(ValidationError, match="tensor_parallel_size needs engine: vllm"):
        EvaluateConfig(engine="transformers", tensor_parallel_size=2)


RANKED = [
    Request(("ood", str(i)), (5, 6, 7 + i), 0, 0.0, i, ((9,), (11, 12, 13), (9, 14)))
    for i in range(2)
]


def test_options_have_the_log_probabilities_of_a_whole_forward(spec, engine) -> None:
    """Beside requests for text, with and without an adapter."""
    base = AutoModelForCausalLM.from_pretrained(spec.model)
    models = {None: base, "a": PeftModel.from_pretrained(base, spec.adapters[0].path)}
    for adapter in ("a", None):
        answers = engine.generate([*ASKED, *RANKED], adapter)
        assert answers[: len(ASKED)] == engine.generate(ASKED, adapter)
        model = models[adapter] if adapter else models["a"].unload()
        for request, answer in zip(RANKED, answers[len(ASKED) :], strict=True):
            assert (answer.text, answer.token_ids, answer.finish_reason) == ("", (), "stop")
            for option, found in zip(request.options, answer.option_logprobs, strict=True):
                ids = torch.tensor([[*request.prompt_ids, *option]])
                with torch.no_grad():
                    logits = model(ids).logits[0].double()
                expected = sum(
                    float(logits[i - 1, ids[0, i]] - logits[i - 1].exp().sum().log())
                    for i in range(3, ids.shape[1])
                )
                assert found == pytest.approx(expected, abs=1e-5)
