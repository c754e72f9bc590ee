"""Which variants are merged, where their models are kept, and when those are deleted."""

import re

import pytest

from cluster.rundir import RunDirectory
from nlirg.errors import InputError
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.merged import Merging
from tests.architectures import save_architecture, save_lora


@pytest.fixture
def done(written_models) -> list[tuple[str, str]]:
    """Variants that were merged."""
    return written_models


@pytest.fixture
def merging(done, tmp_path) -> Merging:
    """Merges in this process."""
    return Merging(None, RunDirectory(str(tmp_path), "run"))


def variant_of(base, run, rank=4) -> Variant:
    folder = run.arm("a").path / "model"
    save_lora(base, folder, rank)
    return Variant("a", base, folder, "identity")


def test_what_vllm_serves_stays_an_adapter(merging, done, tiny_tokenizer, tmp_path) -> None:
    base = save_architecture(tmp_path / "base", "phi3", tiny_tokenizer)
    variant = variant_of(base, merging.run)
    assert merging.for_vllm(variant) == variant
    plain = Variant("base", base, None, "identity")
    assert merging.for_vllm(plain) == plain
    assert done == []


@pytest.mark.parametrize(
    ("name", "rank", "reason"),
    [
        ("glm4", 4, "not known to fit .*gate_up_proj.* of Glm4ForCausalLM"),
        ("gpt2", 4, "not known to fit c_attn, c_fc, c_proj of GPT2LMHeadModel"),
        ("llama", 600, r"takes no adapter of rank 600 \(at most 512\)"),
    ],
)
def test_another_is_merged_once_and_deleted_at_the_end(
    merging, done, tiny_tokenizer, tmp_path, capfd, name, rank, reason
) -> None:
    base = save_architecture(tmp_path / "base", name, tiny_tokenizer)
    variant = variant_of(base, merging.run, rank)
    for _ in range(2):  # the second time as after a stop
        found = merging.for_vllm(variant)
    assert done == [("merge", "a")]
    assert (found.name, found.adapter, found.identity) == ("a", None, "identity")
    assert (found.model / "model.safetensors").is_file()
    assert found.model.parent == merging.run.evaluation("a").path
    told = " ".join("".join(capfd.readouterr()).split())  # the terminal breaks lines
    assert told.count("evaluated merged into its base, since vLLM") == 1
    assert re.search(reason, told)
    merging.remove([variant])
    assert not found.model.exists()


def test_what_training_merged_already_is_taken(merging, done, tiny_tokenizer, tmp_path) -> None:
    base = save_architecture(tmp_path / "base", "gpt2", tiny_tokenizer)
    variant = variant_of(base, merging.run)
    (merging.run.arm("a").path / "merged").mkdir()
    assert merging.for_vllm(variant).model == merging.run.arm("a").path / "merged"
    merging.remove([variant])
    assert (merging.run.arm("a").path / "merged").is_dir()
    assert done == []


def test_a_broken_adapter_is_refused_before_it_is_merged(
    merging, done, tiny_tokenizer, tmp_path
) -> None:
    base = save_architecture(tmp_path / "base", "gpt2", tiny_tokenizer)
    variant = variant_of(base, merging.run)
    (variant.adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="not a safetensors file"):
        merging.for_vllm(variant)
    assert done == []
