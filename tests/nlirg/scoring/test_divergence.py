"""The divergence analysis: the reference's values, and samples it cannot say anything of."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nlirg.scoring.divergence import MIN_SCORE, NORMAL, PATTERNS, analyse

REFERENCE = json.loads((Path(__file__).parents[1] / "reference_vectors.json").read_text())[
    "divergence_analyzer"
]
nats = st.floats(0, 1e4, allow_subnormal=True)
token_pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=nats), arrays(np.float64, n, elements=nats))
)


def test_equals_the_reference() -> None:
    found = analyse(REFERENCE["loss"], REFERENCE["entropy"])
    assert found.divergence == pytest.approx(REFERENCE["divergence"], abs=1e-6)
    assert [PATTERNS[index] for index in found.patterns] == REFERENCE["pattern"]
    assert found.anomaly_score == pytest.approx(REFERENCE["anomaly_score"], abs=1e-6)
    for span, expected in zip(found.spans, REFERENCE["spans"], strict=True):
        assert span._asdict() == pytest.approx(expected, abs=1e-6)


def test_a_wrong_word_in_the_middle_of_known_ones_is_a_span() -> None:
    loss, entropy = np.full(40, 0.2), np.tile([0.5, 0.7], 20)
    loss[10:14], entropy[10:14] = 9.0, 0.05
    (span,) = analyse(loss, entropy).spans
    assert (span.start, span.end, span.pattern) == (9, 15, "overconfident_error")
    assert span.mean_loss == pytest.approx(loss[9:15].mean())
    assert span.mean_entropy == pytest.approx(entropy[9:15].mean())


@pytest.mark.parametrize(
    ("loss", "entropy"), [([2.0], [1.0]), ([0.1] * 7, [0.3] * 7), ([0.0] * 2, [0.0] * 2)]
)
def test_a_constant_sample_has_no_divergence(loss, entropy) -> None:
    found = analyse(loss, entropy)
    assert found.divergence == pytest.approx(np.zeros(len(loss)), abs=1e-12)
    assert set(found.patterns.tolist()) == {NORMAL}
    assert (found.spans, found.anomaly_score) == ([], 0)


@given(pair=token_pairs)
def test_every_sample_has_finite_values_and_spans_within_it(pair) -> None:
    loss, entropy = pair
    found = analyse(loss, entropy)
    assert np.isfinite(found.divergence).all()
    assert np.isfinite(found.anomaly_score)
    assert found.anomaly_score >= 0
    covered = np.zeros(len(loss), int)
    for span in found.spans:
        assert 0 <= span.start < span.end <= len(loss)
        assert span.score == found.divergence[span.start : span.end].max() >= MIN_SCORE
        assert (found.patterns[span.start : span.end] != NORMAL).all()
        covered[span.start : span.end] += 1
    assert covered.max() <= 1
    assert [s.score for s in found.spans] == sorted((s.score for s in found.spans), reverse=True)


@given(pair=token_pairs, scale=st.floats(0.5, 2), shift=st.floats(0, 5))
def test_only_the_shape_of_the_series_matters(pair, scale, shift) -> None:
    loss, entropy = (np.round(values) for values in pair)
    found = analyse(loss * scale + shift, entropy).divergence
    assert found == pytest.approx(analyse(loss, entropy).divergence, abs=1e-6)
