"""Settings of an engine, without starting one."""

import dataclasses
from typing import get_args

import pytest

from eval.generation.adapters import Adapter
from eval.generation.generate import EngineSpec
from eval.generation.vllm_engine import (
    cpu_cache_bytes,
    engine_environment,
    engine_options,
)
from nlirg.errors import InputError
from nlirg.models.model_card import VLLM_RANKS


@pytest.fixture
def spec(tiny_model_dir) -> EngineSpec:
    return EngineSpec(str(tiny_model_dir), str(tiny_model_dir), "cpu", 256, (2,))


def with_ranks(spec: EngineSpec, *ranks: int) -> EngineSpec:
    adapters = tuple(Adapter(f"a{i}", f"/a{i}", rank, ("q_proj",)) for i, rank in enumerate(ranks))
    return dataclasses.replace(spec, adapters=adapters)


@pytest.mark.parametrize(("ranks", "limit"), [((1,), 1), ((2,), 8), ((8, 9), 16), ((512,), 512)])
def test_the_rank_limit_is_the_smallest_that_holds_all(spec, ranks, limit) -> None:
    assert engine_options(with_ranks(spec, *ranks))["max_lora_rank"] == limit


def test_a_rank_no_engine_holds_is_named(spec) -> None:
    with pytest.raises(InputError, match="/a1: rank 513 is above the limit 512"):
        engine_options(with_ranks(spec, 8, 513))


@pytest.mark.parametrize(("adapters", "at_hand"), [(1, 1), (4, 4), (24, 4)])
def test_many_adapters_take_no_more_memory_than_a_few(spec, adapters, at_hand) -> None:
    options = engine_options(with_ranks(spec, *[8] * adapters))
    assert (options["max_loras"], options["max_cpu_loras"]) == (1, at_hand)


@pytest.mark.vllm
def test_the_ranks_are_those_vllm_allows() -> None:
    from vllm.config.lora import MaxLoRARanks

    assert get_args(MaxLoRARanks) == VLLM_RANKS


def test_both_devices_refuse_pickles_and_foreign_code(spec) -> None:
    for device in ("cpu", "gpu"):
        options = engine_options(dataclasses.replace(spec, device=device))
        assert options["load_format"] == "safetensors"
        assert options["trust_remote_code"] is False
        assert "enable_lora" not in options
    assert engine_environment("gpu").items() <= engine_environment("cpu").items()


def test_a_whole_prompt_fits_one_cpu_step(spec) -> None:
    """A prompt prefilled in parts cannot be sampled with a seed there."""
    options = engine_options(dataclasses.replace(spec, context=5000))
    assert options["enable_chunked_prefill"] is False
    assert options["max_num_batched_tokens"] >= 5000


def test_cpu_cache_holds_two_long_sequences(spec) -> None:
    """Keys and values of 2 layers, 2 heads of 8 numbers, 4 bytes each: 256 bytes a token."""
    assert cpu_cache_bytes(spec) == 64 << 20
    assert cpu_cache_bytes(dataclasses.replace(spec, context=10**6)) == 2 * 10**6 * 256
