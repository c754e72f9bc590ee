from collections.abc import Sequence

import numpy as np
import pytest

from nlirg.preflight.corpus_checks import Check
from nlirg.preflight.loss_checks import check_end_loss, check_suitability, check_zones
from nlirg.weighting.weightings import NlirgWeighting

END, WORD = 2, 9


@pytest.mark.parametrize(
    ("loss", "status", "said"),
    [
        ([2.0] * 8 + [0.1] * 2, "ok", "suits"),
        ([8.0] * 6 + [2.0] * 4, "warn", "learn slowly or not at all"),
        ([20.0] * 6 + [2.0] * 4, "warn", "learn slowly or not at all"),
        ([float("nan")] * 6 + [2.0] * 4, "warn", "learn slowly or not at all"),
        ([0.01] * 95 + [2.0] * 5, "warn", "knows them already"),
    ],
)
def test_nlirg_suits_what_is_neither_foreign_nor_known(
    loss: list[float], status: str, said: str
) -> None:
    values = np.array(loss, np.float32)
    check = check_suitability(values, NlirgWeighting(), ["nlirg"])
    assert (check.status, said in check.measured) == (status, True)
    unused = check_suitability(values, NlirgWeighting(), [])
    assert "no arm of this recipe uses it" in unused.measured


def test_breakpoints_that_weigh_nothing_are_noticed() -> None:
    far = NlirgWeighting(x0=30, loss_threshold=7.0)
    check = check_suitability(np.full(9, 3.0, np.float32), far, ["nlirg"])
    assert check.status == "warn"
    assert "breakpoints" in check.advice


def test_zones_and_mean_weight_are_those_of_the_losses() -> None:
    loss = np.array([0.5, 1.2, 7.0, 16.1], np.float32)
    measured = check_zones(loss, 1, NlirgWeighting()).measured
    assert "low 50%, mid 0%, high 25%, discarded 25%; mean 6.20 nats" in measured
    by_hand = [1 / (1 + np.exp(1.19)), 0.5, 1 / (1 + np.exp(0.8)), 0]
    assert f"mean NLIRG weight {np.mean(by_hand):.2g}" in measured


def test_an_end_token_beyond_nlirgs_reach_is_told() -> None:
    def checked(loss: list[float], users: Sequence[str] = ("nlirg",)) -> Check:
        tokens = np.array([WORD, END] * (len(loss) // 2))
        return check_end_loss(np.array(loss, np.float32), tokens, {END}, NlirgWeighting(), users)

    assert checked([20.0, 1.0] * 4).status == "ok", "only end tokens count"
    beyond = checked([1.0, 16.0] * 4)
    assert beyond.status == "warn"
    assert "100% of 4 end tokens" in beyond.measured
    assert "stop" in beyond.advice
    assert checked([1.0, 16.0, 1.0, 1.0]).status == "ok", "half of them is not most"
    assert checked([1.0, 16.0] * 4, users=()).status == "ok", "uniform does teach them"
    none = check_end_loss(
        np.ones(2, np.float32), np.array([WORD, WORD]), {END}, NlirgWeighting(), ["nlirg"]
    )
    assert none.status == "warn"
