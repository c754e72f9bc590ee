"""Losses of base and tuned model, and the divergence between them, on whole texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from eval.cases.general import Passage
from eval.metrics.definition import Measure
from eval.schema.case import Case, Strict
from eval.statistics import estimates
from eval.statistics.estimates import ComparisonConfig, Estimates
from eval.statistics.inference import number_clusters
from eval.statistics.pairing import Tables
from nlirg.chat.encoder import ChatEncoder
from nlirg.errors import BadRowError, InputError

Kind = Literal["domain", "general"]

KINDS: tuple[Kind, Kind] = ("domain", "general")


@dataclass(frozen=True)
class Text:
    """Token ids [T], and labels [T] that are `IGNORE` where a token is only read."""

    id: str
    root_id: str
    kind: Kind
    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def sha256(self) -> str:
        """Hash of ids and labels: losses are comparable only where it is equal."""
        return hashlib.sha256(repr((self.ids, self.labels)).encode()).hexdigest()


class TextDivergence(Strict):
    """What base and tuned model make of one text: means over its tokens, in nats."""

    id: str
    root_id: str
    kind: Kind
    sha256: str
    tokens: int  # whose loss is taken
    base_loss: float
    loss: float
    kl: float  # KL(base || tuned)


def domain_texts(chat: ChatEncoder, cases: Iterable[Case], context: int) -> list[Text]:
    """The references of cases as answers to their prompts; losses are of the answers' tokens.

    A case without a reference, or one that does not fit, is left out.

    Args:
        chat: of the base model.
        cases: their ids are unique.
        context: tokens that the model can read.
    """
    texts = []
    for case in cases:
        messages = [message.model_dump() for message in case.messages]
        messages.append({"role": "assistant", "content": case.reference})
        try:
            sample = chat.encode(
                messages, loss_on="last", max_length=context, overlong="skip"
            ).samples[-1]
        except BadRowError:
            continue
        root = case.root_id or case.id
        texts.append(Text(case.id, root, "domain", tuple(sample.input_ids), tuple(sample.labels)))
    return texts


def general_texts(tokenizer: Any, passages: Iterable[Passage], context: int) -> list[Text]:
    """Passages as plain text, cut at the context; losses are of every token but the first."""
    texts = []
    for passage in passages:
        ids = tuple(tokenizer(passage.text).input_ids[:context])
        if len(ids) > 1:
            texts.append(Text(passage.id, passage.id, "general", ids, ids))
    return texts


Rows = Mapping[str, Sequence[TextDivergence]]  # of one kind, by tuned variant


def divergence_measures(found: Mapping[str, Sequence[TextDivergence]]) -> list[Measure]:
    """Loss and KL on domain and general text; a kind with fewer than two texts has none.

    Means are over tokens; intervals are over texts, since tokens of one text are not independent.

    Args:
        found: tuned variant -> its texts.

    Raises:
        InputError: if the variants were not measured on the same texts.
    """
    domain, general = (_rows_of(found, kind) for kind in KINDS)
    return [*_domain_measures(domain), *_general_measures(general)]


def _domain_measures(rows: Rows) -> list[Measure]:
    if not _comparable(rows):
        return []
    return [
        Measure(
            "domain_loss",
            "Loss on human answers",
            "domain",
            "number",
            "lower",
            "Mean loss of the tokens of the human domain answers, in nats: less means that the "
            "model finds them likelier. Perplexity is e to its power.",
            partial(_losses, rows),
        ),
        Measure(
            "domain_kl",
            "Changed predictions, domain",
            "domain",
            "number",
            "neither",
            "KL(base || tuned) per token of the human domain answers, in nats: how far the model's "
            "predictions moved from the base's where they were meant to.",
            partial(_divergences, rows),
        ),
    ]


def _general_measures(rows: Rows) -> list[Measure]:
    if not _comparable(rows):
        return []
    return [
        Measure(
            "general_loss",
            "Loss on general text",
            "ood",
            "number",
            "lower",
            "Mean loss of the tokens of general text, in nats: more means that the model has lost "
            "language that it knew. Perplexity is e to its power.",
            partial(_losses, rows),
        ),
        Measure(
            "general_kl",
            "Changed predictions, general",
            "ood",
            "number",
            "lower",
            "KL(base || tuned) per token of general text, in nats: how far the model's predictions "
            "moved from the base's where they were not meant to.",
            partial(_divergences, rows),
        ),
    ]


def _rows_of(found: Mapping[str, Sequence[TextDivergence]], kind: Kind) -> Rows:
    """Every variant's texts of one kind, which must be the same."""
    rows = {name: [row for row in part if row.kind == kind] for name, part in found.items()}
    first = next(iter(rows), "")
    for name, part in rows.items():
        if [row.sha256 for row in part] != [row.sha256 for row in rows[first]]:
            raise InputError(
                f"{kind} text: {name!r} and {first!r} were measured on different texts; "
                "evaluate both again"
            )
    return rows


def _comparable(rows: Rows) -> bool:
    return any(len({row.root_id for row in part}) > 1 for part in rows.values())


def _losses(rows: Rows, _tables: Tables, config: ComparisonConfig) -> Estimates:
    texts = next(iter(rows.values()))
    columns = {config.baseline: _per_token(texts, "base_loss")}
    columns |= {name: _per_token(part, "loss") for name, part in rows.items()}
    return _over_texts(columns, texts, config)


def _divergences(rows: Rows, _tables: Tables, config: ComparisonConfig) -> Estimates:
    """The base's own is 0; that others' predictions moved at all is no finding to be tested."""
    texts = next(iter(rows.values()))
    columns = {config.baseline: np.zeros(sum(row.tokens for row in texts))}
    columns |= {name: _per_token(part, "kl") for name, part in rows.items()}
    return Estimates(_over_texts(columns, texts, config).values, against={})


def _per_token(texts: Sequence[TextDivergence], field: str) -> np.ndarray:
    """A text's mean once for each of its tokens, so that the mean is over all tokens."""
    return np.repeat([getattr(row, field) for row in texts], [row.tokens for row in texts])


def _over_texts(
    columns: Mapping[str, np.ndarray], texts: Sequence[TextDivergence], config: ComparisonConfig
) -> Estimates:
    """Estimates from one value a token; what is counted, and drawn at random, are the texts."""
    roots = number_clusters([row.root_id for row in texts])
    clusters = np.repeat(roots, [row.tokens for row in texts])
    found = estimates.of_columns(columns, clusters, config)
    count = len(texts)
    return Estimates(
        {name: each.model_copy(update={"n": count}) for name, each in found.values.items()},
        {name: replace(each, n=count) for name, each in found.against.items()},
    )
