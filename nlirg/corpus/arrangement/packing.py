"""Plain text to token ids, and documents to packs of at most `pack_length` tokens.

A document is cut into pieces only if it is longer than a pack; pieces are put together best-fit
decreasing, which wastes little and cuts nothing (arXiv 2404.10830). Each piece is a segment of its
pack: attention and positions start anew with it, and its first token is not trained, since
nothing before it predicts it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlirg.chat.template import special_tokens
from nlirg.errors import BadRowError
from nlirg.labels import IGNORE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class DocumentPiece:
    """A document, or as much of it as fits into a pack.

    Attributes:
        document: id of the document.
        row_index: of the document.
        task_type: the document's.
        start: the piece's first token, counted in the document.
        stop: one past its last.
    """

    document: str
    row_index: int
    task_type: str
    start: int
    stop: int

    @property
    def n_tokens(self) -> int:
        """Number of its tokens; all but the first are trained."""
        return self.stop - self.start


def encode_document(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a document as the tokenizer writes a text, ended by its end-of-sequence token.

    Raises:
        BadRowError: if the text contains a special token, or no token at all.
    """
    if found := special_tokens(tokenizer).search(text):
        raise BadRowError(f"text contains the special token {found[0]!r}")
    ids = list(tokenizer.encode(text, verbose=False))  # the length is cut later
    if not ids:
        raise BadRowError("text has no tokens")
    return ids if ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


def piece_lengths(length: int, pack_length: int) -> list[int]:
    """Lengths of the pieces of a document: full packs and the rest."""
    full, rest = divmod(length, pack_length)
    return [pack_length] * full + [rest] * (rest > 0)


def document_labels(input_ids: Sequence[int], segments: Iterable[int]) -> list[int]:
    """Labels [T] of token ids [T]: the ids, but `IGNORE` at the first of each segment."""
    labels = list(input_ids)
    start = 0
    for length in segments:
        labels[start] = IGNORE
        start += length
    return labels


def best_fit(lengths: Sequence[int], pack_length: int) -> list[list[int]]:
    """Pack items best-fit decreasing, in O(n (log n + log pack_length)) comparisons.

    The longest item goes first, each into the pack with the least space that still holds it.

    Args:
        lengths: of the items, each in 1..`pack_length`.
        pack_length: what a pack holds.

    Returns:
        Item indices of each pack, ascending, the packs in the order of their first items. Every
        index occurs once; the lengths of a pack sum to at most `pack_length`.

    Raises:
        ValueError: if an item fits into no pack.
    """
    if lengths and not 1 <= min(lengths) <= max(lengths) <= pack_length:
        raise ValueError(f"lengths must lie in 1..{pack_length}")
    packs: list[list[int]] = []
    spaces: list[int] = []  # that open packs have left, each once, ascending
    having: dict[int, list[int]] = defaultdict(list)  # space -> packs
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        at = bisect_left(spaces, lengths[item])
        if at == len(spaces):
            pack, space = len(packs), pack_length
            packs.append([])
        else:
            space = spaces[at]
            pack = having[space].pop()
            if not having[space]:
                del spaces[at]
        packs[pack].append(item)
        left = space - lengths[item]
        if left:
            if not having[left]:
                insort(spaces, left)
            having[left].append(pack)
    return sorted(sorted(pack) for pack in packs)


def cut(document: Mapping[str, Any], pack_length: int) -> list[DocumentPiece]:
    """Cut a document where `piece_lengths` says.

    Args:
        document: `id`, `row_index`, `task_type` and `n_tokens`.
        pack_length: what a pack holds.
    """
    pieces, start = [], 0
    for length in piece_lengths(document["n_tokens"], pack_length):
        place = (start, start + length)
        pieces.append(
            DocumentPiece(document["id"], document["row_index"], document["task_type"], *place)
        )
        start += length
    return pieces


def joined(pieces: Sequence[DocumentPiece]) -> dict[str, Any]:
    """One training sample, a row of `encoded/` without its rank, from the pieces of a pack.

    Its id is a hash of what is in it; its task type is that of all pieces, or "" if they differ.
    """
    members = "\n".join(f"{piece.document}:{piece.start}" for piece in pieces)
    types = {piece.task_type for piece in pieces}
    tokens = sum(piece.n_tokens for piece in pieces)
    return {
        "id": "pack-" + hashlib.sha256(members.encode()).hexdigest()[:16],
        "task_type": types.pop() if len(types) == 1 else "",
        "n_tokens": tokens,
        "n_trained": tokens - len(pieces),
        "pieces": [
            {"row_index": piece.row_index, "start": piece.start, "stop": piece.stop}
            for piece in pieces
        ],
    }


def pack(documents: Iterable[Mapping[str, Any]], pack_length: int) -> list[dict[str, Any]]:
    """Pack documents (see `cut`) into training samples, without their ranks."""
    pieces = [piece for document in documents for piece in cut(document, pack_length)]
    packs = best_fit([piece.n_tokens for piece in pieces], pack_length)
    return [joined([pieces[index] for index in members]) for members in packs]
