"""Preflight checks of a corpus sample: what would go wrong in training, before it starts.

Every check is a pure function from measurements to a `Check`. The bounds below are judgement, made
to point a person at a number worth looking at; none is a measured limit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nlirg.config.corpus import EncodeConfig
from nlirg.corpus.rows import UNIQUE_IDS, repetition
from nlirg.labels import IGNORE
from nlirg.models.chat import End

TRUNCATED_WARN = 0.05  # share of samples that the length limit cuts or leaves out
END_MISSING_WARN = 0.1  # share of samples that do not end on an end token
LOST_TEXT_FAIL = 0.5  # share of samples that do not survive the round trip
SAME_ANSWER_WARN = 0.05  # share of the commonest answer
SAME_ANSWER_ROWS = 3  # fewer equal answers than this are chance
CONSTANT_ROWS = 20  # samples from which a single answer to everything is a fault
CHARACTERS_PER_TOKEN_WARN = 0.6  # below it text is spelt in bytes: a script unknown to the model
UNKNOWN_WARN = 0.001  # share of unknown tokens

MAKE_ROOM = "raise encode.max_length, or shorten the prompts"
NUMBER = re.compile(r"\d+")

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the preflight's answer.

    Attributes:
        name: what was looked at.
        status: `fail` stops a run or makes it worthless, `warn` needs a person's eye.
        measured: numbers.
        advice: what to do; "" where there is nothing to do.
    """

    name: str
    status: Status
    measured: str
    advice: str = ""


@dataclass(frozen=True)
class Fault:
    """A row that cannot be used."""

    place: str
    reason: str


@dataclass(frozen=True)
class Probe:
    """A training sample of a usable row.

    Attributes:
        place: file and line.
        answer: text of the last answer; "" of a plain document.
        characters: length of the text before the limit.
        full_length: tokens before the limit.
        input_ids: int64 [T] as it would be trained; empty if the limit leaves the row out.
        labels: int64 [T], `IGNORE` where a token is not trained.
        lost: what the round trip through the tokenizer changed; "" if nothing.
        merges: whether a token of the whole text would reach over the border between a prompt and
            its answer, so that the two are encoded apart.
        data: index of its source in the recipe's `data`.
        task_type: of its row.
    """

    place: str
    answer: str
    characters: int
    full_length: int
    input_ids: np.ndarray
    labels: np.ndarray
    lost: str
    merges: bool = False
    data: int = 0
    task_type: str = ""

    @property
    def trained(self) -> np.ndarray:
        """The trained tokens, int64 [n]."""
        return trained_tokens(self.labels)


def trained_tokens(labels: np.ndarray) -> np.ndarray:
    """Return the trained tokens of labels [T]; nothing predicts a sample's first token."""
    following = labels[1:]
    return following[following != IGNORE]


def length_limit(config: EncodeConfig) -> int:
    """Return the most tokens that a training row may have."""
    return config.pack_length if config.task == "cpt" else config.max_length


def check_corpus(
    config: EncodeConfig, tokenizer: Any, probes: Sequence[Probe], ends: End
) -> list[Check]:
    """Carry out the checks of text and tokens that make sense for the task.

    Args:
        config: how the samples were encoded.
        tokenizer: of the base model.
        probes: usable rows, at least one.
        ends: tokens that end an answer.
    """
    limit = length_limit(config)
    checks = [check_lengths(probes, limit)]
    if config.task == "sft":
        checks.append(check_truncation(probes, limit))
        checks.append(check_end_of_turn(probes, limit, ends.turn, ends.stops, ends.names))
    return [
        *checks,
        check_round_trip(probes),
        check_vocabulary(probes, tokenizer.unk_token_id),
        check_duplicates(probes, "answers" if config.task == "sft" else "documents"),
    ]


def check_rows(
    probes: Sequence[Probe], faults: Sequence[Fault], read: str, limit: float, total: int
) -> Check:
    """Count the rows that can be used, and name the commonest reasons why others cannot.

    Args:
        probes: usable rows.
        faults: the others.
        read: how large the corpus is, in words.
        limit: `score.max_bad_rows`: a share of the rows below 1, else a number of rows.
        total: rows of the corpus.
    """
    usable = len({probe.place for probe in probes})
    measured = f"{usable} of {usable + len(faults)} sampled rows usable; {read}"
    if len(probes) != usable:
        measured += f"; they are {len(probes)} training samples"
    if not faults:
        return Check("rows", "ok", measured)
    # "prompt has 612 tokens" and "prompt has 700 tokens" are one reason.
    reasons = Counter(NUMBER.sub("#", fault.reason) for fault in faults).most_common(3)
    examples = {NUMBER.sub("#", fault.reason): fault.place for fault in reversed(faults)}
    told = "; ".join(f"{count} x {reason} (e.g. {examples[reason]})" for reason, count in reasons)
    rest = len(set(examples)) - len(reasons)
    told += f"; {rest} more reasons" if rest else ""
    share = len(faults) / (usable + len(faults))
    advice = "correct these rows; in a run they are set aside in quarantine.jsonl"
    too_many = share * total > limit if limit >= 1 else share > limit
    if too_many:
        advice = "more than score.max_bad_rows allows: correct these rows, or raise it"
    return Check(
        "rows", "fail" if too_many or not probes else "warn", f"{measured}: {told}", advice
    )


def check_template(notes: Mapping[str, int], foreign: Sequence[str] = ()) -> Check:
    """Say what of the rows the chat template does not know, and what is done about it.

    Args:
        notes: what in words -> sampled rows.
        foreign: what the template writes that looks like a special token and is none.
    """
    told = "; ".join(f"{note} ({count} rows)" for note, count in notes.items())
    told = told or "knows everything that the rows carry"
    if not foreign and any("is not read" in note for note in notes):
        advice = "rename what is meant to be read (see the formats in nlirg/README.md)"
        return Check("chat template", "warn", told, advice)
    if not foreign:
        return Check("chat template", "ok", told)
    measured = f"writes {', '.join(foreign)}, which the tokenizer has not; {told}"
    advice = "it was made for another model: its markers would be spelt in pieces"
    return Check("chat template", "warn", measured, advice)


def check_ids(read: int, repeated: Mapping[str, Sequence[str]]) -> Check:
    """Check that no id stands on two rows.

    Args:
        read: rows that were looked at.
        repeated: such ids, and where they stand.
    """
    if not repeated:
        return Check("ids", "ok", f"no id stands on two of the {read:,} rows read")
    name, (first, second, *_) = next(iter(repeated.items()))
    return Check("ids", "fail", repetition(len(repeated), name, first, second), UNIQUE_IDS)


def check_lengths(probes: Sequence[Probe], limit: int) -> Check:
    """Check the share of tokens that are trained, and how long untrained and trained parts are."""
    kept = [probe for probe in probes if len(probe.input_ids)]
    tokens = sum(len(probe.input_ids) for probe in kept)
    trained = [len(probe.trained) for probe in kept]
    if not sum(trained):
        return Check("lengths", "fail", f"no token to train within {limit} tokens", MAKE_ROOM)
    untrained = [len(probe.input_ids) - n for probe, n in zip(kept, trained, strict=True)]
    return Check(
        "lengths",
        "ok",
        f"{percent(sum(trained) / tokens)} of tokens trained; per sample (median, p95, max) "
        f"untrained {_spread(untrained)}, trained {_spread(trained)}; limit {limit}",
    )


def check_truncation(probes: Sequence[Probe], limit: int) -> Check:
    """Check the share of samples that the length limit cuts or leaves out."""
    left_out = sum(not len(probe.input_ids) for probe in probes)
    cut = sum(probe.full_length > limit for probe in probes) - left_out
    share = (cut + left_out) / max(len(probes), 1)
    lost = 1 - sum(min(p.full_length, limit) for p in probes if len(p.input_ids)) / max(
        sum(probe.full_length for probe in probes), 1
    )
    if not share:
        return Check("truncation", "ok", f"no sample has over {limit} tokens")
    measured = (
        f"{percent(share)} of samples over {limit} tokens: {cut} cut, {left_out} left out; "
        f"{percent(lost)} of all tokens lost"
    )
    if share <= TRUNCATED_WARN:
        return Check("truncation", "ok", measured)
    longest = max(probe.full_length for probe in probes)
    advice = f"raise encode.max_length (the longest sample has {longest} tokens)"
    return Check("truncation", "warn", measured, advice)


def check_end_of_turn(
    probes: Sequence[Probe],
    limit: int,
    end_ids: Collection[int],
    stop_ids: Collection[int],
    names: Mapping[int, str],
) -> Check:
    """Check whether samples teach the model to stop: their last trained token ends a turn.

    Args:
        probes: usable rows.
        limit: tokens a sample may have; a longer one is cut and cannot end.
        end_ids: tokens that end an answer: the template's end-of-turn, and those of `stop_ids`.
        stop_ids: tokens at which the model's own settings stop a generation.
        names: text of token ids.
    """
    kept = [probe for probe in probes if len(probe.trained)]
    last = Counter(int(probe.trained[-1]) for probe in kept)
    ends = {token: count for token, count in last.items() if token in end_ids}
    known = ", ".join(names[token] for token in ends or sorted(end_ids))
    measured = f"{percent(sum(ends.values()) / max(len(kept), 1))} of samples end on {known}"
    if not ends:
        advice = "the model would not learn to stop: raise encode.max_length, or correct the "
        return Check("end of turn", "fail", measured, f"{advice}chat template")
    unheeded = [names[token] for token in ends if token not in stop_ids]
    if unheeded:
        measured += f"; the model's settings do not stop at {', '.join(unheeded)}"
        advice = "add it to eos_token_id in the base model's generation_config.json"
        return Check("end of turn", "warn", measured, advice)
    missing = len(kept) - sum(ends.values())
    if missing <= END_MISSING_WARN * len(kept):
        return Check("end of turn", "ok", measured)
    cut = sum(probe.full_length > limit for probe in kept)
    advice = "cut answers do not teach the model to stop: raise encode.max_length"
    if missing > cut:
        advice = "the chat template does not end every answer alike: look at it"
    return Check("end of turn", "warn", measured, advice)


def check_round_trip(probes: Sequence[Probe]) -> Check:
    """Check whether text survives tokenizing, and generation sees the prompts of training."""
    lost = [probe for probe in probes if probe.lost]
    share = len(lost) / max(len(probes), 1)
    if not lost:
        measured = f"{len(probes)} samples unchanged by encoding and decoding"
        if merging := sum(probe.merges for probe in probes):
            measured += (
                f"; in {merging} an answer's first letters would be one token with the prompt's "
                "last: they are trained as they are generated, apart"
            )
        return Check("round trip", "ok", measured)
    return Check(
        "round trip",
        "fail" if share > LOST_TEXT_FAIL else "warn",
        f"{len(lost)} of {len(probes)} samples changed; {lost[0].place}: {lost[0].lost}",
        "look at this row: tokenizer and chat template do not belong together, or drop characters",
    )


def check_vocabulary(probes: Sequence[Probe], unknown_id: int | None) -> Check:
    """Check that the tokenizer knows the corpus's script: characters per token, unknowns."""
    tokens = max(sum(probe.full_length for probe in probes), 1)
    characters = sum(probe.characters for probe in probes) / tokens
    kept = sum(len(probe.input_ids) for probe in probes)
    unknown = sum(int((probe.input_ids == unknown_id).sum()) for probe in probes) / max(kept, 1)
    measured = f"{characters:.2f} characters per token, {percent(unknown)} unknown tokens"
    if characters >= CHARACTERS_PER_TOKEN_WARN and unknown <= UNKNOWN_WARN:
        return Check("vocabulary", "ok", measured)
    advice = "the tokenizer was not made for this language: use a base model that knows it"
    return Check("vocabulary", "warn", measured, advice)


def check_duplicates(probes: Sequence[Probe], what: str) -> Check:
    """Check the share of the commonest answer: a model learns to say what most rows say.

    Args:
        probes: usable rows.
        what: how to call more than one answer.
    """
    answers = Counter(probe.answer.strip() for probe in probes)
    (answer, count), *_ = answers.most_common(1)
    measured = f"{len(answers)} different {what} in {len(probes)} samples"
    if count > 1:
        share = percent(count / len(probes))
        measured += f"; the commonest, {_shortened(answer)!r}, stands in {share}"
    if len(answers) == 1 and len(probes) >= CONSTANT_ROWS:
        advice = f"all {what} are equal: there is nothing to learn but to repeat one"
        return Check("duplicates", "fail", measured, advice)
    if count < SAME_ANSWER_ROWS or count / len(probes) <= SAME_ANSWER_WARN:
        return Check("duplicates", "ok", measured)
    advice = "right if the task is to choose among few labels; otherwise remove repeated rows"
    return Check("duplicates", "warn", measured, advice)


def first_change(text: str, other: str) -> str:
    """Say where a text was changed, with what surrounds the place; "" if it was not."""
    if text == other:
        return ""
    pairs = enumerate(zip(text, other, strict=False))
    place = next((at for at, (a, b) in pairs if a != b), min(len(text), len(other)))
    around = slice(max(place - 10, 0), place + 15)
    return f"changed at character {place + 1}: {text[around]!r} became {other[around]!r}"


def squeezed(text: str) -> str:
    """Strip all white space, which templates are free to change."""
    return "".join(text.split())


def percent(share: float) -> str:
    """Format a share as a percentage that never rounds something to 0% or a part to 100%."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%".replace(".0%", "%")


def _spread(values: Sequence[int]) -> str:
    """Return the median, 95th percentile and maximum."""
    middle, high = np.percentile(values, [50, 95])
    return f"{middle:.0f}, {high:.0f}, {max(values)}"


def _shortened(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
