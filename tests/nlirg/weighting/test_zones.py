import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.weighting.zones import zone_shares


def test_zone_bounds() -> None:
    loss = [1.45, 1.4501, 6.5999, 6.6, 14.999, 15.0, math.nan, math.inf]
    expected = {"low": 1 / 8, "mid": 2 / 8, "high": 2 / 8, "discarded": 3 / 8}
    assert zone_shares(np.array(loss, dtype=np.float32)) == expected


def test_zones_of_nothing_are_zero() -> None:
    assert zone_shares(np.array([])) == {"low": 0, "mid": 0, "high": 0, "discarded": 0}


@given(st.lists(st.floats(width=32), min_size=1, max_size=30))
def test_zone_shares_add_up_to_one(losses) -> None:
    assert sum(zone_shares(np.array(losses)).values()) == pytest.approx(1)
