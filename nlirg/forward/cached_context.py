"""A detached, growing key/value cache: the prefix that a short `gradient_context` leaves out.

With `gradient_context: n` a window's gradient flows through its own tokens and the n before them.
Keys and values of everything earlier come from here. They were computed when their tokens were
trained or first read, by the weights of that time, and are not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig

from nlirg.errors import InputError
from nlirg.forward.batching import Row

Layers = list[tuple[Tensor, Tensor]]  # keys and values [rows, heads, length, dim] of each layer


def check_cacheable(config: PretrainedConfig) -> None:
    """Refuse models whose layers see more or less than the whole prefix.

    Raises:
        InputError: naming the kind of layer.
    """
    text = config.get_text_config()
    # A few models (Mistral) have one kind of layer, and name it by their window alone.
    only = "sliding_attention" if getattr(text, "sliding_window", None) else "full_attention"
    kinds = set(getattr(text, "layer_types", None) or [only])
    if other := sorted(kinds - {"full_attention"}):
        raise InputError(
            f"train.gradient_context: the model has {', '.join(other)} layers, for which a cached "
            "prefix is not supported; use gradient_context: full"
        )


@dataclass(frozen=True)
class _Prefix:
    """The cached prefix of a slot's sample.

    Attributes:
        visit: the visit of a slot that the keys belong to.
        length: tokens cached.
        layers: keys and values [heads, length, dim] of each layer.
    """

    visit: int
    length: int
    layers: Layers


class ContextCache:
    """Prefixes of the slots that a rank serves.

    Args:
        gradient_context: n, prefix tokens that take part in the gradient.
    """

    def __init__(self, gradient_context: int) -> None:
        self._context = gradient_context
        self._prefixes: dict[int, _Prefix] = {}

    @property
    def prefixes(self) -> dict[int, _Prefix]:
        """What is cached now, by slot; a copy, to go back to."""
        return dict(self._prefixes)

    @prefixes.setter
    def prefixes(self, known: dict[int, _Prefix]) -> None:
        self._prefixes = known

    def edge(self, row: Row) -> int:
        """Return the first position of a row that is computed with gradient."""
        return max(row.origin, row.window.start - 1 - self._context)

    def unread(self, rows: Sequence[Row]) -> list[Row]:
        """Return what must be read before these rows' gradients can begin at their edges."""
        known = [row.origin + self._known(row) for row in rows]
        return [
            row.before(start, self.edge(row))
            for row, start in zip(rows, known, strict=True)
            if start < self.edge(row)
        ]

    def _known(self, row: Row) -> int:
        """Return the tokens of this visit's sample that are cached."""
        held = self._prefixes.get(row.slot)
        return held.length if held is not None and held.visit == row.visit else 0

    def inputs(self, rows: Sequence[Row]) -> tuple[DynamicCache, dict[str, Tensor]]:
        """Return these rows' cache, cropped to where each begins, and the model's further inputs.

        Args:
            rows: each beginning at the position after its cached prefix.

        Returns:
            The cache, and `attention_mask` [B, P + T] and `position_ids` [B, T] for P cached and T
            new positions; prefixes and new tokens are padded on the right.
        """
        lengths = [row.begin - row.origin for row in rows]
        width = max((row.length for row in rows), default=1)
        longest = max(lengths, default=0)
        mask = torch.zeros((max(len(rows), 1), longest + width), dtype=torch.long)
        positions = torch.zeros((max(len(rows), 1), width), dtype=torch.long)
        mask[:, longest] = 1  # a batch without rows still attends to something
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            mask[index, :length] = 1
            mask[index, longest : longest + row.length] = 1
            positions[index] = torch.arange(length, length + width)
        return self._cache(rows, lengths, longest), {
            "attention_mask": mask,
            "position_ids": positions,
        }

    def _cache(self, rows: Sequence[Row], lengths: list[int], longest: int) -> DynamicCache:
        if not longest:
            return DynamicCache()
        prefixes = [
            self._prefixes[row.slot].layers if length else None
            for row, length in zip(rows, lengths, strict=True)
        ]
        example = next(layers for layers in prefixes if layers is not None)
        stacked = []
        for index, pair in enumerate(example):
            both = []
            for kind, like in enumerate(pair):
                heads, _, dim = like.shape
                whole = like.new_zeros((len(rows), heads, longest, dim))
                for number, (layers, length) in enumerate(zip(prefixes, lengths, strict=True)):
                    if layers is not None:
                        whole[number, :, :length] = layers[index][kind][:, :length]
                both.append(whole)
            stacked.append((both[0], both[1]))
        return DynamicCache(stacked)

    def extend(self, rows: Sequence[Row], cache: DynamicCache) -> None:
        """Keep what a forward over these rows has added to its cache."""
        width = max((row.length for row in rows), default=0)
        grown: Any = cache.layers
        for index, row in enumerate(rows):
            known = row.begin - row.origin
            held = self._prefixes.get(row.slot)
            before: list[Any] = [(None, None)] * len(grown)
            if held is not None and known:
                before = held.layers
            layers = [
                (
                    self._appended(layer.keys, index, row, width, keys),
                    self._appended(layer.values, index, row, width, values),
                )
                for layer, (keys, values) in zip(grown, before, strict=True)
            ]
            self._prefixes[row.slot] = _Prefix(row.visit, known + row.length, layers)

    @staticmethod
    def _appended(whole: Tensor, index: int, row: Row, width: int, before: Tensor | None) -> Tensor:
        """Return a row's new keys or values, the last `width` of `whole`, behind those it had."""
        start = whole.shape[-2] - width
        new = whole[index, :, start : start + row.length].detach()
        known = row.begin - row.origin
        return new.clone() if before is None else torch.cat([before[:, :known], new], dim=1)

    def save(self, path: Path) -> None:
        """Write the prefixes: a resumed run must see the old keys that an unbroken one sees."""
        torch.save({slot: vars(prefix) for slot, prefix in self._prefixes.items()}, path)

    def load(
        self, paths: Sequence[Path], device: torch.device, serves: Callable[[int], bool]
    ) -> None:
        """Read what `save` wrote on every rank, whatever the number of ranks was.

        Args:
            paths: one file per rank that wrote.
            device: of the model.
            serves: whether this rank serves a slot. What others serve would only grow old here,
                and be taken for the newest when it is saved again.
        """
        for path in paths:
            held: dict[int, Any] = torch.load(path, map_location=device, weights_only=True)
            self._prefixes |= {s: _Prefix(**fields) for s, fields in held.items() if serves(s)}
