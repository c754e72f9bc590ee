from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from eval.metrics.diversity import NGrams
from eval.statistics.inference import (
    Jackknife,
    bootstrap_means,
    fewest_discordant,
    holm,
    jackknife_groups,
    mcnemar,
    mcnemar_detectable,
    mcnemar_power,
    mean_error,
    minimum_detectable,
    number_clusters,
    percentile_interval,
    t_test,
    wilson,
)
from nlirg.errors import InputError


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1
    assert mcnemar(6, 0) == pytest.approx(2 / 2**6)
    assert mcnemar(1, 3) == pytest.approx(2 * (1 + 4) / 2**4)
    assert mcnemar(5, 5) == 1


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_symmetric(gains, losses):
    assert mcnemar(gains, losses) == pytest.approx(mcnemar(losses, gains))


def test_fewest_discordant_is_where_mcnemar_becomes_significant():
    for alpha in (0.1, 0.0625, 0.05, 0.01, 0.05 / 20):
        least = fewest_discordant(alpha)
        assert mcnemar(least, 0) < alpha <= mcnemar(least - 1, 0)


@given(st.integers(1, 200), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(n, data, confidence):
    right = data.draw(st.integers(0, n))
    expected = scipy_stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    low, high = wilson(right / n, n, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low <= right / n <= high


def test_wilson_of_nothing_is_refused():
    with pytest.raises(InputError, match="zero cases"):
        wilson(0.0, 0, 0.95)


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_clusters_are_numbered_in_order():
    assert number_clusters(["b", "a", "b"]).tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="zero pairs"):
        number_clusters([])
    with pytest.raises(InputError, match="one independent case"):
        number_clusters(["a", "a"])


def test_bootstrap_of_constant_data_is_constant():
    values = np.full((10, 2), 0.3)
    means = bootstrap_means(values, np.arange(10), 100, seed=0)
    assert means.shape == (100, 2)
    assert means == pytest.approx(np.full((100, 2), 0.3))
    assert mean_error(values[:, 0], np.arange(10)) == pytest.approx(0)


def test_bootstrap_columns_are_paired_and_seeded():
    values = np.random.default_rng(0).normal(size=(50, 1))
    means = bootstrap_means(np.hstack([values, values + 1]), np.arange(50), 200, seed=4)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(200))
    again = bootstrap_means(values, np.arange(50), 200, seed=4)
    assert again[:, 0] == pytest.approx(means[:, 0])


def test_bootstrap_in_pieces_draws_as_many(monkeypatch):
    monkeypatch.setattr("eval.statistics.inference._DRAWS_AT_ONCE", 70)
    values = np.random.default_rng(0).normal(size=(20, 1))
    means = bootstrap_means(values, np.arange(20), 1000, seed=0)
    assert means.std() == pytest.approx(mean_error(values[:, 0], np.arange(20)), rel=0.1)


def test_repeating_every_case_adds_no_certainty():
    values = np.random.default_rng(0).normal(size=(40, 1))
    once = bootstrap_means(values, np.arange(40), 500, seed=0)
    fourfold = bootstrap_means(np.repeat(values, 4, axis=0), np.repeat(np.arange(40), 4), 500, 0)
    assert fourfold == pytest.approx(once)
    error = mean_error(values[:, 0], np.arange(40))
    assert mean_error(np.repeat(values[:, 0], 4), np.repeat(np.arange(40), 4)) == pytest.approx(
        error
    )


def test_mean_error_without_clusters_is_the_textbook_one():
    values = np.random.default_rng(1).normal(size=30)
    assert mean_error(values, np.arange(30)) == pytest.approx(values.std(ddof=1) / np.sqrt(30))


def test_t_test_equals_scipy():
    values = np.random.default_rng(2).normal(0.3, size=25)
    expected = scipy_stats.ttest_1samp(values, 0).pvalue
    got = t_test(values.mean(), mean_error(values, np.arange(25)), 25)
    assert got == pytest.approx(expected)


def test_t_test_without_spread_is_defined():
    assert t_test(0.0, 0.0, 10) == 1
    assert t_test(1.0, 0.0, 3) == 1 / 4


def test_bootstrap_interval_covers():
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        values = rng.exponential(size=(60, 1))
        low, high = percentile_interval(
            bootstrap_means(values, np.arange(60), 300, seed=trial)[:, 0], 0.95
        )
        hits += low <= 1 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_minimum_detectable_is_found_at_the_power_promised():
    n, rng = 100, np.random.default_rng(6)
    effect = minimum_detectable(1 / np.sqrt(n), n, 0.05)
    assert effect == pytest.approx(2.802 / 10, rel=0.02)
    found = [
        t_test(x.mean(), mean_error(x, np.arange(n)), n) < 0.05
        for x in rng.normal(effect, size=(400, n))
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(("effect", "churn"), [(0.15, 0.0), (0.1, 0.1), (0.2, 0.3), (0.5, 0.6)])
def test_mcnemars_power_is_that_of_simulated_pairs(effect, churn):
    rng, n = np.random.default_rng(7), 60
    changed = min(churn + effect, 1)
    shares = [(changed + effect) / 2, (changed - effect) / 2, 1 - changed]
    pairs = rng.multinomial(n, shares, size=3000)
    test = cache(mcnemar)
    found = [test(int(g), int(losses)) < 0.01 and g > losses for g, losses, _ in pairs]
    expected = mcnemar_power(effect, churn, n, 0.01)
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 3000))


def test_without_an_effect_mcnemar_finds_one_no_more_often_than_alpha_says():
    for n in (10, 50, 200):
        for churn in (0.0, 0.1, 0.5, 1.0):
            assert mcnemar_power(0.0, churn, n, 0.05) <= 0.025


@pytest.mark.parametrize("churn", [0.0, 0.05, 0.2, 0.5])
def test_what_mcnemar_could_have_shown_has_the_power_stated(churn):
    effect = mcnemar_detectable(churn, 200, 0.05 / 20)
    assert mcnemar_power(effect, churn, 200, 0.05 / 20) == pytest.approx(0.8, abs=0.01)


def test_what_mcnemar_could_have_shown_agrees_with_the_normal_approximation():
    """Connor (1987), Biometrics 43(1), 207-211, gives the pairs needed to show an effect."""
    n, churn = 1000, 0.3
    effect = mcnemar_detectable(churn, n, 0.05)
    z, changed = scipy_stats.norm.ppf([0.975, 0.8]), churn + effect
    needed = (z[0] * np.sqrt(changed) + z[1] * np.sqrt(changed - effect**2)) ** 2 / effect**2
    assert needed == pytest.approx(n, rel=0.06)


def test_few_pairs_can_show_nothing():
    assert mcnemar_detectable(0.0, 5, 0.05) > 1
    assert mcnemar_detectable(0.0, 6, 0.05) <= 1


def test_clustered_intervals_cover_and_plain_ones_do_not():
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 9, size=50)
    clusters = np.repeat(np.arange(50), sizes)
    hits = {"clustered": 0, "plain": 0, "robust": 0}
    for trial in range(300):
        values = (rng.normal(size=50)[clusters] + rng.normal(size=len(clusters)))[:, None]
        for name, groups in (("clustered", clusters), ("plain", np.arange(len(clusters)))):
            means = bootstrap_means(values, groups, 200, seed=trial)[:, 0]
            low, high = percentile_interval(means, 0.95)
            hits[name] += low <= 0 <= high
        error = mean_error(values[:, 0], clusters)
        hits["robust"] += t_test(values.mean(), error, 50) >= 0.05
    assert hits["clustered"] >= 0.9 * 300
    assert hits["robust"] >= 0.92 * 300
    assert hits["plain"] < 0.85 * 300


def test_clustered_shares_do_not_raise_false_alarms():
    """Two samples of one model on ten wordings of each question, which differ in difficulty."""
    rng = np.random.default_rng(9)
    clusters = np.repeat(np.arange(40), 10)
    alarms = 0
    for _ in range(300):
        chances = rng.beta(0.5, 0.5, size=(2, 40)).mean(axis=0)[clusters]
        one, two = rng.random((2, 400)) < chances
        change = one.astype(float) - two
        alarms += t_test(change.mean(), mean_error(change, clusters), 40) < 0.05
    assert alarms <= 0.08 * 300


def test_holm_keeps_the_chance_of_any_false_alarm():
    rng = np.random.default_rng(10)
    p_values = rng.random((400, 20))
    raised = [min(holm(dict(enumerate(map(float, row)))).values()) < 0.05 for row in p_values]
    assert np.mean(raised) == pytest.approx(0.05, abs=0.03)


def test_groups_hold_whole_clusters_of_nearly_equal_number():
    clusters = np.repeat(np.arange(47), 3)
    groups = jackknife_groups(clusters, seed=0)
    per_cluster = groups.reshape(47, 3)
    assert (per_cluster == per_cluster[:, :1]).all()
    sizes = np.bincount(per_cluster[:, 0])
    assert len(sizes) == 20
    assert sizes.max() - sizes.min() <= 1
    assert len(set(jackknife_groups(np.arange(5), seed=0))) == 5


def test_jackknife_of_a_mean_is_the_textbook_error():
    values = np.random.default_rng(0).normal(size=20)
    jackknife = Jackknife.of(lambda keep: float(values[keep].mean()), np.arange(20))
    assert jackknife.error == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    low, high = jackknife.interval(0.95)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_jackknife_interval_of_distinct_2_covers_and_a_bootstrap_would_not():
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 201)
    chances /= chances.sum()

    def grams() -> NGrams:
        words = rng.choice(200, p=chances, size=(60, 20)).astype(str)
        return NGrams.of(words.tolist(), 2)

    truth = np.mean([grams().distinct() for _ in range(100)])
    trials = [grams() for _ in range(100)]
    hits = 0
    for trial, each in enumerate(trials):
        groups = jackknife_groups(np.arange(60), trial)
        low, high = Jackknife.of(each.distinct, groups).interval(0.95)
        hits += low <= truth <= high
    assert hits >= 90

    drawn = rng.integers(60, size=60)
    resampled = np.concatenate([trials[0].ids[trials[0].owner == i] for i in drawn])
    assert len(np.unique(resampled)) / len(resampled) < 0.85 * trials[0].distinct()
