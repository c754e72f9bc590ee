"""How often each row of a corpus is trained, and in which order rows of several kinds alternate.

Rows are mixed by parts: a source, or a task type within one. All of it is a pure function of the
settings, the rows' trained tokens and the seed, so a step's number is enough to go on.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from nlirg.config.corpus import DataConfig, TimesConfig
from nlirg.errors import InputError

REPLAY = "replay"  # name of the source that the base model wrote
# Rows seen more often in one epoch are learned by heart: by the fourth time a row has taught nearly
# all that it can, by the sixteenth all (arXiv 2305.16264).
MOST_TIMES = 20
_WHOLE = 1e-6  # shares that miss 1 by less add up to it


class MixPart(NamedTuple):
    """Rows that are seen equally often."""

    label: str
    rows: int
    tokens: int  # trained ones, each row counted once
    times: float  # that an epoch sees each row; 0 where there is none


@dataclass(frozen=True)
class Mixture:
    """Which samples are seen how often in an epoch.

    Attributes:
        parts: at least one.
        of_sample: int64 [samples] index into `parts`.
    """

    parts: tuple[MixPart, ...]
    of_sample: np.ndarray

    @property
    def tokens(self) -> float:
        """Trained tokens of an epoch."""
        return sum(part.tokens * part.times for part in self.parts)


def unmixed(n_trained: np.ndarray) -> Mixture:
    """Return the mixture that sees every sample once an epoch."""
    part = MixPart("corpus", len(n_trained), int(n_trained.sum()), 1.0)
    return Mixture((part,), np.zeros(len(n_trained), np.int64))


def source_names(data: Sequence[DataConfig]) -> tuple[str, ...]:
    """Name the sources: as their `name` says, else by their file; by their path where two agree.

    Raises:
        InputError: if two have one name, or one has that of replay.
    """
    short = [source.name or PurePath(source.path).name.split(".")[0] for source in data]
    names = tuple(
        name if source.name or (short.count(name) == 1 and name) else source.path
        for name, source in zip(short, data, strict=True)
    )
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"data: two sources are called {name!r}; give them a `name` each")
        if name == REPLAY:
            raise InputError(f"data: {REPLAY!r} is the base model's own answers; name it otherwise")
    return names


def is_mixed(data: Sequence[DataConfig]) -> bool:
    """Say whether some rows are to be seen more often than others."""
    return any(_asks(source) or any(map(_asks, source.task_types.values())) for source in data)


def _asks(times: TimesConfig) -> bool:
    return times.weight is not None or times.repeat is not None


def domain_sources(data: Sequence[DataConfig]) -> list[int]:
    """Return the indices of the sources that rows are held out of, to ask or to validate on.

    A source with a weight is mixed into the others; where all have one, none is told from them.
    """
    without = [index for index, source in enumerate(data) if source.weight is None]
    return without or list(range(len(data)))


def check_shares(data: Sequence[DataConfig]) -> None:
    """Refuse shares that no rows could meet.

    Raises:
        InputError: naming the sources or task types whose weights do not go together.
    """
    named = dict(zip(source_names(data), data, strict=True))
    _times("data", named, dict.fromkeys(named, 1.0))
    for name, source in named.items():
        within = dict(source.task_types)
        if sum(part.weight or 0.0 for part in within.values()) < 1 - _WHOLE:
            within["the others"] = TimesConfig()  # there may be some
        _times(f"data {name}: task_types", within, dict.fromkeys(within, 1.0))


def mixture(
    data: Sequence[DataConfig],
    source: np.ndarray,
    task_types: Sequence[str],
    task: np.ndarray,
    n_trained: np.ndarray,
    replay_share: float | None = None,
) -> Mixture:
    """Work out how often each sample is seen.

    Where others have no weight, these are seen as often as they would be without it, and the
    weighted ones as often as the shares ask for; where all have one, there are as many tokens as
    without. Replay comes on top of the corpus.

    Args:
        data: the recipe's sources.
        source: int [samples] index into `data`; that of replay is `len(data)`.
        task_types: names.
        task: int [samples] index into them.
        n_trained: [samples] trained tokens.
        replay_share: of all trained tokens; None without replay.

    Raises:
        InputError: if a share cannot be met, with how often rows would be seen.
    """
    labels, times, repeats = ["corpus"], [1.0], [1.0]
    of_sample = np.zeros(len(n_trained), np.int64)
    if is_mixed(data):
        kinds = dict(zip(task_types, range(len(task_types)), strict=True))
        within = {
            name: _split(name, one, source == index, kinds, task, n_trained)
            for index, (name, one) in enumerate(zip(source_names(data), data, strict=True))
        }
        labels, times, repeats = _joined(data, within, of_sample)
    if replay_share is not None:
        of_sample[source == len(data)] = len(labels)
        labels, times, repeats = [*labels, REPLAY], [*times, 0.0], [*repeats, 1.0]
    rows = np.bincount(of_sample, minlength=len(labels))
    sizes = np.bincount(of_sample, n_trained, minlength=len(labels))
    if replay_share is not None:
        times[-1] = _replayed(float(sizes[:-1] @ times[:-1]), float(sizes[-1]), replay_share)
    parts = tuple(
        MixPart(label, int(count), int(size), each if size else 0.0)
        for label, count, size, each in zip(labels, rows, sizes, times, strict=True)
    )
    _require_rows(parts, repeats)
    return Mixture(parts, of_sample)


def _joined(
    data: Sequence[DataConfig], within: dict[str, _Within], of_sample: np.ndarray
) -> tuple[list[str], list[float], list[float]]:
    """Put the sources together, and number the samples in place.

    Returns:
        Of all parts their labels, how often each is seen, and how often a `repeat` asks for it.
    """
    tokens = {name: part.tokens for name, part in within.items()}
    outer = _times("data", dict(zip(within, data, strict=True)), tokens)
    labels: list[str] = []
    times: list[float] = []
    repeats: list[float] = []
    for (name, part), source in zip(within.items(), data, strict=True):
        of_sample[part.inside] = part.of_sample[part.inside] + len(labels)
        labels += part.labels
        times += [outer[name] * each for each in part.times]
        repeats += [(source.repeat or 1.0) * each for each in part.repeats]
    return labels, times, repeats


class _Within(NamedTuple):
    """One source by task types; `of_sample` [samples] counts only where `inside`."""

    labels: list[str]
    times: list[float]
    repeats: list[float]
    tokens: float
    inside: np.ndarray
    of_sample: np.ndarray


def _split(
    name: str,
    source: DataConfig,
    inside: np.ndarray,
    kinds: dict[str, int],
    task: np.ndarray,
    n_trained: np.ndarray,
) -> _Within:
    """Work out how often a source's rows are seen before its own weight."""
    asked = list(source.task_types)
    of_sample = np.full(len(n_trained), len(asked), np.int64)
    for number, kind in enumerate(asked):
        if kind not in kinds or not (inside & (task == kinds[kind])).any():
            there = sorted(k for k, index in kinds.items() if (inside & (task == index)).any())
            raise InputError(
                f"data {name}: task_types: no row to train has {kind!r}; there are "
                + (", ".join(map(repr, there)) or "none")
            )
        of_sample[task == kinds[kind]] = number
    sizes = np.bincount(of_sample[inside], n_trained[inside], minlength=len(asked) + 1)
    parts: dict[str, TimesConfig] = dict(source.task_types)
    tokens = dict(zip(asked, sizes.tolist(), strict=False))
    if sizes[-1] or not asked:
        rest = "the others" if asked else ""
        parts[rest], tokens[rest] = TimesConfig(), float(sizes[-1])
    times = _times(f"data {name}: task_types", parts, tokens)
    labels = [f"{name}: {kind}" if kind else name for kind in parts]
    total = sum(tokens[kind] * times[kind] for kind in parts)
    repeats = [part.repeat or 1.0 for part in parts.values()]
    return _Within(labels, [times[kind] for kind in parts], repeats, total, inside, of_sample)


def _times(
    key: str, parts: dict[str, TimesConfig] | dict[str, DataConfig], tokens: dict[str, float]
) -> dict[str, float]:
    """Return how often each part is seen, from its size and what is asked of it."""
    weights = {name: part.weight for name, part in parts.items() if part.weight is not None}
    times = {name: part.repeat or 1.0 for name, part in parts.items()}
    share = sum(weights.values())
    if not weights:
        return times
    others = [name for name in parts if name not in weights]
    if others and share >= 1 - _WHOLE:
        raise InputError(
            f"{key}: the weights add up to {share:g}, which leaves nothing for "
            f"{', '.join(map(repr, others))}: lower them, or give every one a weight"
        )
    if not others and abs(share - 1) > _WHOLE:
        raise InputError(
            f"{key}: every one has a weight, and they add up to {share:g}: shares of the trained "
            "tokens add up to 1; leave one without a weight to have the rest go to it"
        )
    if empty := [name for name in weights if not tokens[name]]:
        raise InputError(f"{key}: {empty[0]!r} has a weight, and no token of it is trained")
    if others:
        total = sum(tokens[name] * times[name] for name in others) / (1 - share)
    else:
        total = sum(tokens.values())
    return times | {name: weight * total / tokens[name] for name, weight in weights.items()}


def _replayed(corpus: float, replay: float, share: float) -> float:
    if not replay:
        raise InputError("train.replay: the base model's answers have no token to train")
    return corpus * share / (1 - share) / replay


def _require_rows(parts: Sequence[MixPart], repeats: Sequence[float]) -> None:
    """Refuse shares that so few rows cannot meet; what a `repeat` asks for is no share."""
    more = [part.times / max(times, 1.0) for part, times in zip(parts, repeats, strict=True)]
    if max(more) <= MOST_TIMES:
        return
    worst = parts[more.index(max(more))]
    seen = ", ".join(f"{part.label} {part.times:.3g} times" for part in parts)
    remedy = "lower train.replay.share or give more replay.prompts"
    if worst.label != REPLAY:
        remedy = "lower its weight, add rows, or say how often with repeat instead"
    raise InputError(
        f"{worst.label} has too few rows for its share: an epoch would see {seen}, and more than "
        f"{MOST_TIMES} times only teaches rows by heart: {remedy}"
    )


def mixing_table(mixed: Mixture, about: str = "") -> Iterator[str]:
    """Yield a line for every part: its rows, tokens, how often an epoch sees them, its share."""
    total = mixed.tokens or 1.0
    width = max(len(part.label) for part in mixed.parts)
    for part in mixed.parts:
        yield (
            f"{part.label:<{width}}  {about}{part.rows:,} rows, {about}{part.tokens:,} tokens, "
            f"seen {part.times:.3g} times an epoch, "
            f"{part.tokens * part.times / total:.1%} of what is trained"
        )


def mixed_order(
    mixed: Mixture, n_trained: np.ndarray, epochs: float, seed: int, shuffle: bool = True
) -> np.ndarray:
    """Return which sample is taken up when in a run: int64 [visits].

    Every part is passed through in permutations of its own, one after the other, so that no row
    comes again before all have come; of a last, partial pass there are as many rows as come nearest
    to the tokens asked for. Without `shuffle` the rows keep their order in every pass. In every
    beginning of the run each part has its share of the trained tokens, to within the longest row
    (worst-case fair weighted fair queueing: Bennett and Zhang, INFOCOM 1996).
    """
    streams = []
    for number, part in enumerate(mixed.parts):
        members = np.flatnonzero(mixed.of_sample == number)
        key = (seed,) if number == 0 else (seed, number)
        if len(members) and part.times:
            passes = part.times * epochs
            streams.append(_stream(members, n_trained[members], passes, key, shuffle))
    if len(streams) < 2:
        return streams[0] if streams else np.empty(0, np.int64)
    return _interleaved([stream[n_trained[stream] > 0] for stream in streams], n_trained)


def _stream(
    members: np.ndarray, n_trained: np.ndarray, passes: float, key: tuple[int, ...], shuffle: bool
) -> np.ndarray:
    """Return the samples of one part, pass after pass."""

    def order(number: int) -> np.ndarray:
        if not shuffle:
            return np.arange(len(members))
        first, *rest = key
        return np.random.default_rng((first, number, *rest)).permutation(len(members))

    whole = int(passes + 1e-9)
    found = [order(number) for number in range(whole)]
    wanted = max(passes - whole, 0.0) * n_trained.sum()
    if wanted > 1e-6:
        last = order(whole)
        sizes = n_trained[last]
        found.append(last[: np.searchsorted(np.cumsum(sizes) - sizes / 2, wanted)])
    return members[np.concatenate(found)] if found else members[:0]


def _interleaved(streams: Sequence[np.ndarray], n_trained: np.ndarray) -> np.ndarray:
    """Merge streams so that each has its share of the tokens in every beginning.

    A stream's row may come once its fair share has reached it, and of those that may the one comes
    whose end is due first.
    """
    streams = [stream for stream in streams if len(stream)]
    sizes = [n_trained[stream].astype(np.float64) for stream in streams]
    total = sum(float(size.sum()) for size in sizes)
    ends = [np.cumsum(size) * (total / size.sum()) for size in sizes]
    due = [end.tolist() for end in ends]
    # What is due first has begun at 0; rounding must not keep a row back that may come.
    begins = [[0.0, *(end[:-1] * (1 - 1e-12)).tolist()] for end in ends]
    lengths = [size.tolist() for size in sizes]
    waiting = [(0.0, number) for number in range(len(streams))]
    ready: list[tuple[float, int]] = []
    places = [0] * len(streams)
    order: list[tuple[int, int]] = []
    done = 0.0
    while waiting or ready:
        while waiting and (waiting[0][0] <= done or not ready):
            _, number = heapq.heappop(waiting)
            heapq.heappush(ready, (due[number][places[number]], number))
        _, number = heapq.heappop(ready)
        place = places[number]
        order.append((number, place))
        done += lengths[number][place]
        places[number] = place = place + 1
        if place < len(due[number]):
            heapq.heappush(waiting, (begins[number][place], number))
    numbers, rows = np.array(order, np.int64).reshape(-1, 2).T
    merged = np.empty(len(order), np.int64)
    for number, stream in enumerate(streams):
        merged[numbers == number] = stream[rows[numbers == number]]
    return merged
