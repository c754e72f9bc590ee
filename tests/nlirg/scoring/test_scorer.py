import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, Gemma2ForCausalLM

from nlirg.errors import InputError
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model
from nlirg.scoring.scorer import Scorer, length_batches, scored_row, without_context


@pytest.fixture(scope="module")
def samples(tiny_tokenizer) -> list[tuple[list[int], list[int]]]:
    """Samples of many lengths, some with several answers or none."""
    rng = np.random.default_rng(0)
    result = []
    for length in (30, 3, 61, 12, 12, 45, 7):
        ids = rng.integers(0, len(tiny_tokenizer), length)
        trained = rng.random(length) < 0.4
        result.append((ids.tolist(), np.where(trained, ids, IGNORE).tolist()))
    ids = [5, 6, 7]
    return [*result, (ids, [IGNORE] * 3)]


@pytest.fixture(scope="module")
def scorer(tiny_model_dir) -> Scorer:
    return Scorer(str(tiny_model_dir), "fp32")


def assert_same(found, expected, tolerance=1e-5) -> None:
    assert len(found) == len(expected)
    for pair, other in zip(found, expected, strict=True):
        for values, others in zip(pair, other, strict=True):
            np.testing.assert_allclose(values, others, atol=tolerance, rtol=tolerance)


def test_equals_an_unbatched_double_precision_computation(scorer, samples, tiny_model_dir) -> None:
    model = load_model(str(tiny_model_dir), torch.float64).eval()
    expected = []
    for ids, labels in samples:
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        trained = [i for i in range(1, len(ids)) if labels[i] != IGNORE]
        loss = [-log_p[i - 1, ids[i]].item() for i in trained]
        rows = log_p[[i - 1 for i in trained]]
        entropy = -(rows.exp() * rows).sum(-1)
        spread = ((rows.exp() * rows**2).sum(-1) - entropy**2).sqrt()
        expected.append((loss, entropy.numpy(), spread.numpy()))
    found = scorer.score(samples)
    assert_same(found, expected)
    assert np.ptp(np.concatenate([tokens.loss for tokens in found])) > 1, "it tells tokens apart"


@pytest.mark.parametrize("max_batch_tokens", [1, 64, 130])
def test_batches_do_not_change_results(scorer, samples, tiny_model_dir, max_batch_tokens) -> None:
    other = Scorer(str(tiny_model_dir), "fp32", max_batch_tokens)
    assert_same(other.score(samples), scorer.score(samples))


def test_results_follow_the_order_of_the_samples(scorer, samples) -> None:
    assert_same(scorer.score(samples[::-1]), scorer.score(samples)[::-1])


def test_arrays_are_taken_like_lists(scorer, samples) -> None:
    arrays = [tuple(np.array(part, dtype=np.int32) for part in sample) for sample in samples]
    assert_same(scorer.score(arrays), scorer.score(samples), tolerance=0)


def test_bfloat16_scores_are_near_and_float32(scorer, samples, tiny_model_dir) -> None:
    found = Scorer(str(tiny_model_dir), "bf16").score(samples)
    assert {values.dtype for pair in found for values in pair} == {np.dtype(np.float32)}
    assert_same(found, scorer.score(samples), tolerance=0.2)


def test_nothing_to_score(scorer, samples) -> None:
    assert scorer.score([]) == []
    (tokens,) = scorer.score(samples[-1:])
    assert [len(values) for values in tokens] == [0, 0, 0]
    assert [len(values) for values in scorer.score([([5], [5])])[0]] == [0, 0, 0]


def test_a_model_with_nan_is_named_with_the_sample(samples, tiny_model_dir, tmp_path) -> None:
    path = shutil.copytree(tiny_model_dir, tmp_path / "model")
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    broken = Scorer(str(path), "fp32")
    with pytest.raises(InputError, match="NaN or infinite losses on sample row-0"):
        broken.score(samples[:1], names=["row-0"])
    with pytest.raises(InputError, match="on sample 0"):
        broken.score(samples[:1])


def test_a_sample_longer_than_the_models_context_is_named(scorer) -> None:
    ids = [5] * 513  # 512 are read: the last token is predicted only
    assert len(scorer.score([(ids, ids)])[0].loss) == 512
    with pytest.raises(InputError, match=r"sample row-1 has 514 tokens.*can read \(512\).*lower"):
        scorer.score([([5, 6], [5, 6]), ([5, *ids], [5, *ids])], names=["row-0", "row-1"])


def test_a_soft_capped_model_is_scored_by_its_own_logits(tmp_path) -> None:
    config = Gemma2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.5,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    ids = list(range(3, 20))
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [-log_p[i - 1, ids[i]].item() for i in range(1, len(ids))]
    (found,) = Scorer(str(tmp_path), "fp32").score([(ids, ids)])
    assert found.loss == pytest.approx(expected, abs=1e-5)


def test_without_context_the_token_before_the_answer_begins() -> None:
    ids, labels = without_context([1, 2, 3, 4, 5, 6, 7], [IGNORE, IGNORE, 3, 4, IGNORE, 6, 7])
    assert ids.tolist() == [2, 3, 4, 6, 7]
    assert labels.tolist() == [IGNORE, 3, 4, 6, 7]


def test_without_context_a_document_is_itself_and_nothing_is_nothing() -> None:
    ids, labels = without_context([4, 5, 6], [IGNORE, 5, 6])
    assert (ids.tolist(), labels.tolist()) == ([4, 5, 6], [IGNORE, 5, 6])
    assert without_context([4, 5, 6], [4, 5, 6])[0].tolist() == [4, 5, 6]
    assert [len(part) for part in without_context([4, 5], [IGNORE, IGNORE])] == [0, 0]


def test_the_prompt_changes_the_losses_of_the_same_tokens(scorer, samples) -> None:
    alone = [without_context(*sample) for sample in samples]
    with_prompt = scorer.score(samples)
    without = scorer.score(alone)
    assert [len(one.loss) for one in with_prompt] == [len(other.loss) for other in without]
    assert not np.allclose(with_prompt[2].loss, without[2].loss)


@given(lengths=st.lists(st.integers(1, 50), max_size=20), max_tokens=st.integers(1, 200))
def test_batches_hold_every_sample_once_under_the_budget(lengths, max_tokens) -> None:
    rows = {index: scored_row([0] * (n + 1), [0] * (n + 1)) for index, n in enumerate(lengths)}
    batches = list(length_batches(rows, max_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens
