import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nlirg.errors import InputError
from nlirg.models import load_model
from nlirg.scorer import Scorer, _batches
from nlirg.windows import IGNORE


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
        entropy = [-(log_p[i - 1].exp() * log_p[i - 1]).sum().item() for i in trained]
        expected.append((loss, entropy))
    found = scorer.score(samples)
    assert_same(found, expected)
    assert np.ptp(np.concatenate([loss for loss, _ in found])) > 1, "the model tells tokens apart"


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
    ((loss, entropy),) = scorer.score(samples[-1:])
    assert len(loss) == len(entropy) == 0


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


@given(lengths=st.lists(st.integers(1, 50), max_size=20), max_tokens=st.integers(1, 200))
def test_batches_hold_every_sample_once_under_the_budget(lengths, max_tokens) -> None:
    batches = list(_batches(lengths, max_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens
