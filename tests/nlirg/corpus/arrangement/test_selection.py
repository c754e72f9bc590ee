"""Rules of selection: bands, ranges, duplicates and caps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.config.corpus import SelectConfig
from nlirg.corpus.arrangement.selection import (
    KEPT,
    Caps,
    check_ranges,
    repeated,
    rule_columns,
    rule_drops,
)
from nlirg.errors import InputError


def drops(columns, **rules):
    arrays = {name: np.array(values) for name, values in columns.items()}
    return rule_drops(arrays, len(next(iter(arrays.values()))), SelectConfig(**rules))


def test_bands_keep_those_named_and_say_which_a_row_has():
    found = drops({"band": ["high", "suspect", "good"]}, bands=("high", "good"))
    assert [drop.rule for drop in found] == ["", "bands", ""]
    assert found[1].reason == "band is suspect, not high or good"


def test_bounds_of_a_range_belong_to_it():
    found = drops({"mean_loss": [0.99, 1.0, 3.0, 3.01]}, ranges={"mean_loss": (1, 3)})
    assert [drop == KEPT for drop in found] == [False, True, True, False]
    assert found[0] == ("ranges.mean_loss", "mean_loss is 0.99, below 1")
    assert found[3] == ("ranges.mean_loss", "mean_loss is 3.01, above 3")


def test_a_bound_may_be_left_open_and_a_missing_value_lies_in_no_range():
    ranges = {"ifd": (None, 1.0)}
    found = drops({"ifd": [-1e9, 1.0, 2.0, np.nan]}, ranges=ranges)
    assert [drop.reason for drop in found] == ["", "", "ifd is 2, above 1", "ifd is not known"]
    ranges = {"ifd": (None, None)}
    assert drops({"ifd": [0.0, np.nan]}, ranges=ranges)[1].reason == "ifd is not known"


def test_a_row_that_breaks_several_rules_is_told_the_first():
    columns = {"band": ["suspect"], "a": [5.0], "b": [5.0]}
    ranges = {"a": (0, 1), "b": (0, 1)}
    assert drops(columns, bands=("high",), ranges=ranges)[0].rule == "bands"
    assert drops(columns, ranges=ranges)[0].rule == "ranges.a"


def test_without_rules_every_row_is_kept_and_no_column_is_needed():
    assert rule_columns(SelectConfig()) == []
    assert rule_drops({}, 3, SelectConfig()) == [KEPT] * 3
    select = SelectConfig(bands=("high",), ranges={"mean_loss": (0, 1)})
    assert rule_columns(select) == ["band", "mean_loss"]


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(-10, 10), st.floats(0, 10))
def test_a_row_is_kept_exactly_if_it_lies_in_the_range(values, low, width):
    found = drops({"x": values}, ranges={"x": (low, low + width)})
    assert [drop == KEPT for drop in found] == [low <= x <= low + width for x in values]


def test_ranges_of_unknown_columns_and_empty_ranges_are_refused():
    with pytest.raises(InputError, match=r"ranges\.loss: .* they have max_loss, mean_loss"):
        check_ranges(SelectConfig(ranges={"loss": (0, 1)}), ["mean_loss", "max_loss"])
    with pytest.raises(InputError, match="nothing lies between 3 and 1"):
        check_ranges(SelectConfig(ranges={"mean_loss": (3, 1)}), ["mean_loss"])
    check_ranges(SelectConfig(ranges={"mean_loss": (1, 1)}), ["mean_loss"])


@given(st.lists(st.integers(0, 5)))
def test_rows_repeat_the_first_of_their_group(groups):
    found = repeated(np.array(groups, np.int64))
    assert found.tolist() == [groups.index(group) for group in groups]


def capped(task_types, answers=None, **rules):
    caps = Caps(SelectConfig(**rules))
    found = caps.drops(task_types, answers or [None] * len(task_types))
    return [drop.rule for drop in found], caps


def test_the_first_rows_of_every_task_type_are_kept():
    found, _ = capped(list("abaabb"), per_task_type=2)
    assert found == ["", "", "", "per_task_type", "", "per_task_type"]


def test_a_cap_of_one_task_type_leaves_the_others():
    found, caps = capped(list("ababa"), per_task_type={"a": 1})
    assert found == ["", "", "per_task_type", "", "per_task_type"]
    caps.check()


def test_rows_with_one_answer_are_capped_and_answers_of_their_own_are_not():
    found, _ = capped(["a"] * 5, [7, None, 7, None, 7], per_answer=2)
    assert found == ["", "", "", "", "per_answer"]


def test_a_row_that_one_cap_drops_takes_no_place_under_the_other():
    found, _ = capped(list("aab"), [1, 1, 1], per_task_type=1, per_answer=2)
    assert found == ["", "per_task_type", ""]
    found, _ = capped(list("aaa"), [1, 1, None], per_task_type=2, per_answer=1)
    assert found == ["", "per_answer", ""]


def test_caps_hold_over_batches():
    caps = Caps(SelectConfig(per_task_type=3))
    kept = [caps.drops(["a", "b"], [None, None]) for _ in range(5)]
    assert sum(drop == KEPT for batch in kept for drop in batch) == 6


def test_a_cap_of_a_task_type_that_no_row_has_is_refused():
    _, caps = capped(["triage", "reply"], per_task_type={"trial": 3})
    with pytest.raises(InputError, match="'trial'; there are 'reply', 'triage'"):
        caps.check()
