"""Mixing: shares that hold in every beginning of a run, and how often each row is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.config.corpus import DataConfig, TimesConfig
from nlirg.corpus.arrangement.mixing import (
    MOST_TIMES,
    MixPart,
    Mixture,
    check_shares,
    domain_sources,
    mixed_order,
    mixture,
    source_names,
    unmixed,
)
from nlirg.errors import InputError


def made(tokens: dict[str, list[int]], times: list[float]) -> tuple[Mixture, np.ndarray]:
    groups = [
        MixPart(name, len(sizes), sum(sizes), each)
        for (name, sizes), each in zip(tokens.items(), times, strict=True)
    ]
    of = np.repeat(np.arange(len(tokens)), [len(sizes) for sizes in tokens.values()])
    return Mixture(tuple(groups), of), np.concatenate([*map(np.array, tokens.values())])


sizes = st.lists(st.integers(1, 60), min_size=1, max_size=40)
corpora = st.lists(st.tuples(sizes, st.floats(0.1, 4.0)), min_size=1, max_size=6)


@settings(max_examples=400, deadline=None)
@given(corpora, st.floats(0.3, 2.5), st.integers(0, 3), st.booleans())
def test_every_beginning_has_every_share_within_one_row(parts, epochs, seed, shuffle) -> None:
    tokens = {str(number): rows for number, (rows, _) in enumerate(parts)}
    mixed, n_trained = made(tokens, [times for _, times in parts])
    order = mixed_order(mixed, n_trained, epochs, seed, shuffle)
    came = n_trained[order]
    for number in range(len(parts)):
        mine = np.where(mixed.of_sample[order] == number, came, 0)
        if not mine.sum():
            continue
        share = mine.sum() / came.sum()
        off = np.abs(np.cumsum(mine) - share * np.cumsum(came))
        assert off.max() <= came.max() + 1e-6
        # And the share itself is what was asked for, but for a part of one row of each group.
        wanted = mixed.parts[number].times * epochs * mixed.parts[number].tokens
        assert abs(mine.sum() - wanted) <= max(tokens[str(number)]) / 2 + 1e-6


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(0, 3))
def test_no_row_comes_again_before_all_have_come(parts, seed) -> None:
    tokens = {str(number): rows for number, (rows, _) in enumerate(parts)}
    mixed, n_trained = made(tokens, [times for _, times in parts])
    order = mixed_order(mixed, n_trained, 1.0, seed)
    for number in range(len(parts)):
        visits = np.bincount(order[mixed.of_sample[order] == number], minlength=len(n_trained))
        mine = visits[mixed.of_sample == number]
        assert mine.max() - mine.min() <= 1


def test_many_small_sources_do_not_crowd_out_a_large_one() -> None:
    tokens = {"large": [1] * 500, **{f"small {n}": [1] * 10 for n in range(50)}}
    mixed, n_trained = made(tokens, [1.0] * 51)
    order = mixed_order(mixed, n_trained, 1, 0)
    large = np.cumsum(mixed.of_sample[order] == 0)
    assert np.abs(large - 0.5 * np.arange(1, 1001)).max() <= 1


def epochs_of(samples: int, epochs: float, seed: int, shuffle: bool = True) -> np.ndarray:
    n_trained = np.full(samples, 3)
    return mixed_order(unmixed(n_trained), n_trained, epochs, seed, shuffle)


@given(st.integers(1, 50), st.integers(1, 4), st.integers(0, 2**31))
def test_every_epoch_is_a_permutation_and_the_seed_decides_it(samples, epochs, seed) -> None:
    order = epochs_of(samples, epochs, seed)
    for epoch in order.reshape(epochs, samples):
        assert sorted(epoch) == list(range(samples))
    assert np.array_equal(order, epochs_of(samples, epochs, seed))


def test_epochs_differ_and_do_not_depend_on_how_many_follow() -> None:
    order = epochs_of(100, 3, seed=5)
    assert not np.array_equal(order[:100], order[100:200])
    assert np.array_equal(epochs_of(100, 2, seed=5), order[:200])


def test_without_shuffling_every_epoch_follows_the_samples_whatever_the_seed() -> None:
    assert epochs_of(3, 2, seed=5, shuffle=False).tolist() == [0, 1, 2, 0, 1, 2]
    assert epochs_of(0, 2, seed=5, shuffle=False).tolist() == []


def test_a_tenth_of_an_epoch_more_is_a_tenth_once_more() -> None:
    mixed, n_trained = made({"corpus": [7] * 100}, [1.0])
    order = mixed_order(mixed, n_trained, 1.1, seed=3)
    assert sorted(order[:100]) == list(range(100))
    assert len(order) == 110
    assert len(set(order[100:])) == 10
    whole = mixed_order(mixed, n_trained, 2, seed=3)
    assert (whole[:110] == order).all()
    kept = mixed_order(mixed, n_trained, 1.1, seed=3, shuffle=False)
    assert (kept == [*range(100), *range(10)]).all()


def test_a_second_group_leaves_the_order_of_the_first_alone() -> None:
    alone, n_alone = made({"corpus": [5] * 40}, [1.0])
    beside, n_both = made({"corpus": [5] * 40, "replay": [3] * 30}, [1.0, 0.5])
    order = mixed_order(beside, n_both, 2, seed=1)
    assert (order[order < 40] == mixed_order(alone, n_alone, 2, seed=1)).all()


def config(*sources: dict) -> list[DataConfig]:
    return [DataConfig(path=f"{'abc'[n]}.jsonl", **one) for n, one in enumerate(sources)]


def mix(data: list[DataConfig], tokens: list[int], replay: float | None = None) -> Mixture:
    """Return the mixture of sources with so many rows of 1 token each, of task types x and y."""
    source = np.repeat(np.arange(len(tokens)), tokens)
    task = np.arange(len(source)) % 2
    return mixture(data, source, ["x", "y"], task, np.ones(len(source), np.int64), replay)


def test_nothing_asked_is_one_group_seen_once() -> None:
    assert [*mix(config({}, {}), [6, 4]).parts] == [MixPart("corpus", 10, 10, 1.0)]


def test_a_weight_is_a_share_beside_what_has_none() -> None:
    vertical, general = mix(config({}, {"weight": 0.2}), [80, 1000]).parts
    assert (vertical.times, general.times * general.tokens) == (1.0, pytest.approx(20))


def test_where_all_have_weights_the_corpus_stays_as_long() -> None:
    one, other = mix(config({"weight": 0.75}, {"weight": 0.25}), [60, 60]).parts
    assert (one.times, other.times) == (pytest.approx(1.5), pytest.approx(0.5))


def test_task_types_share_their_source() -> None:
    hard = {"task_types": {"x": TimesConfig(weight=0.8)}}
    x, y, rest = mix(config({**hard, "repeat": 2}, {}), [40, 10]).parts
    assert (x.label, y.label, rest.label) == ("a: x", "a: the others", "b")
    assert x.times * x.tokens == pytest.approx(4 * y.times * y.tokens)
    assert (y.times, rest.times) == (2.0, 1.0)


def test_replay_comes_on_top_of_the_corpus() -> None:
    mixed = mix(config({}), [80, 100], replay=0.2)
    assert [group.times for group in mixed.parts] == [1.0, pytest.approx(0.2)]
    assert mixed.tokens == pytest.approx(100)


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ([{"weight": 0.5}, {"weight": 0.4}], "add up to 0.9"),
        ([{"weight": 0.7}, {"weight": 0.4}, {}], "leaves nothing for 'c'"),
        ([{"weight": 1.0}, {}], "leaves nothing for 'b'"),
        ([{"name": "same"}, {"name": "same"}], "two sources are called 'same'"),
        ([{"name": "replay"}], "base model's own answers"),
        ([{"task_types": {t: TimesConfig(weight=0.6) for t in "xy"}}], "add up to 1.2"),
    ],
)
def test_shares_that_do_not_go_together_are_refused(sources: list[dict], told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_shares(config(*sources))


def test_too_few_rows_are_told_with_how_often_each_would_be_seen() -> None:
    with pytest.raises(InputError, match=rf"a 1 times, b 225 times, and more than {MOST_TIMES}"):
        mix(config({}, {"weight": 0.9}), [100, 4])
    with pytest.raises(InputError, match=r"replay has too few rows.*train.replay.share"):
        mix(config({}), [100, 1], replay=0.5)
    with pytest.raises(InputError, match="no row to train has 'z'; there are 'x', 'y'"):
        mix(config({"task_types": {"z": TimesConfig(repeat=2)}}), [4])


def test_all_task_types_of_a_source_may_have_weights() -> None:
    data = config({"task_types": {t: TimesConfig(weight=w) for t, w in (("x", 0.25), ("y", 0.75))}})
    check_shares(data)
    assert [group.times for group in mix(data, [40]).parts] == [0.5, 1.5]


def test_names_are_short_where_they_can_be() -> None:
    data = [DataConfig(path=path) for path in ("x/train.jsonl.gz", "y/other.json", "z/other.json")]
    assert source_names(data) == ("train", "y/other.json", "z/other.json")


def test_a_repeat_is_asked_for_however_often() -> None:
    often, once = mix(config({"repeat": 30}, {}), [4, 10]).parts
    assert (often.times, once.times) == (30, 1)


def test_rows_are_held_out_of_what_is_not_mixed_in() -> None:
    assert domain_sources(config({}, {"weight": 0.2}, {"repeat": 2})) == [0, 2]
    assert domain_sources(config({"weight": 0.8}, {"weight": 0.2})) == [0, 1]
