"""How much the answers resemble each other, beside the base model's and at equal length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.metrics.definition import Estimator
from eval.metrics.diversity import NGrams, compression_ratio, repeated_share
from eval.statistics import estimates
from eval.statistics.estimates import ComparisonConfig, Estimates, Statistic
from eval.statistics.inference import Flags
from eval.statistics.pairing import HUMAN, Table, Tables
from eval.text import Units, join_units

OfTexts = Callable[[Mapping[str, Sequence[Units]], Table, ComparisonConfig], Estimates]


def as_they_are(of_texts: OfTexts) -> Estimator:
    """Make an estimator of whole answers; the human ones are estimated on their own."""

    def estimate(tables: Tables, config: ComparisonConfig) -> Estimates:
        table = tables["template"]
        whole = of_texts(table.units, table, config)
        if (beside := table.beside_references) is not None:
            whole.values.update(of_texts({HUMAN: beside.units[HUMAN]}, beside, config).values)
        return whole

    return estimate


def at_equal_length(of_texts: OfTexts, least: int) -> Estimator:
    """Make an estimator of every variant beside the baseline, their answers cut to the shorter one.

    Short text looks diverse. It is cut in pairs, so that one arm with short answers does not take
    the others' words away: what the baseline had in a pair is `Estimate.before`. Its own value is
    that of its whole answers. Who never has the `least` units has no value.
    """

    def estimate(tables: Tables, config: ComparisonConfig) -> Estimates | None:
        table, base = tables["template"], config.baseline
        if _longest(table.units[base]) < least:
            return None
        result = of_texts({base: table.units[base]}, table, config)
        pairs = [(table, name) for name in table.answers if name != base]
        if table.beside_references is not None:
            pairs.append((table.beside_references, HUMAN))
        for part, name in pairs:
            texts = part.equal_units(base, name)
            if _longest(texts[name]) < least:
                continue
            both = of_texts(texts, part, config)
            before = {"before": both.values[base].value}
            result.values[name] = both.values[name].model_copy(update=before)
            if name != HUMAN:  # shown, not compared
                result.against.update(both.against)
        return result

    return estimate


def _longest(texts: Sequence[Units]) -> int:
    return max(map(len, texts))


def mean(value: Callable[[Units], float]) -> OfTexts:
    """Average one value an answer."""

    def of_texts(
        texts: Mapping[str, Sequence[Units]], table: Table, config: ComparisonConfig
    ) -> Estimates:
        columns = {name: np.array([*map(value, answers)]) for name, answers in texts.items()}
        return estimates.of_columns(columns, table.clusters, config)

    return of_texts


def whole(
    statistic: Callable[[Sequence[Units]], Statistic], upper: float = 1, *, binomial: bool = False
) -> OfTexts:
    """Estimate a statistic of all answers together; see `estimates.of_statistics`."""

    def of_texts(
        texts: Mapping[str, Sequence[Units]], table: Table, config: ComparisonConfig
    ) -> Estimates:
        statistics = {name: statistic(answers) for name, answers in texts.items()}
        return estimates.of_statistics(statistics, table.clusters, config, upper, binomial=binomial)

    return of_texts


def duplicates(
    texts: Mapping[str, Sequence[Units]], table: Table, config: ComparisonConfig
) -> Estimates:
    """Estimate the share of the answers that another prompt was given, too, word by word."""

    def statistic(answers: Sequence[Units]) -> Statistic:
        known: dict[tuple[str, ...], int] = {}
        codes = np.array([known.setdefault(tuple(text), len(known)) for text in answers])

        def share(keep: Flags) -> float:
            pairs = np.unique(np.stack([codes[keep], table.clusters[keep]]), axis=1)
            roots = np.bincount(pairs[0], minlength=len(known))
            return float((roots[codes[keep]] > 1).mean())

        return share

    statistics = {name: statistic(answers) for name, answers in texts.items()}
    return estimates.of_statistics(statistics, table.clusters, config, 1, binomial=True)


def distinct(n: int) -> Callable[[Sequence[Units]], Statistic]:
    """Distinct n-grams over all n-grams."""
    return lambda texts: NGrams.of(texts, n).distinct


def top_phrases(texts: Sequence[Units]) -> Statistic:
    """Share of the commonest 3-grams."""
    return NGrams.of(texts, 3).top_share


def commonest(part: Callable[[Units], tuple[str, ...]]) -> Callable[[Sequence[Units]], Statistic]:
    """Share of the answers that have the commonest opening, or closing.

    Of the answers that have words; where none has, all begin alike: with nothing.
    """

    def of_texts(texts: Sequence[Units]) -> Statistic:
        known: dict[tuple[str, ...], int] = {}
        codes = np.array([known.setdefault(part(text), len(known)) for text in texts])
        spoken = np.array([bool(text) for text in texts])

        def share(keep: Flags) -> float:
            parts = codes[keep & spoken]
            return float(np.bincount(parts).max() / len(parts)) if len(parts) else 1.0

        return share

    return of_texts


def compression(texts: Sequence[Units]) -> Statistic:
    """Size of the answers over their size compressed."""
    joined = [join_units(text) for text in texts]
    return lambda keep: compression_ratio(
        [text for text, kept in zip(joined, keep, strict=True) if kept]
    )


def repetition(text: Units) -> float:
    """Share of an answer's 3-grams that it has already used."""
    return repeated_share(text)


def is_empty(text: Units) -> bool:
    """Whether an answer says nothing."""
    return not text
