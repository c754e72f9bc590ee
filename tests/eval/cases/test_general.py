"""The texts that training watches: other ones than those that an evaluation reports."""

import json
from collections import Counter

import pytest

from eval.cases import general
from eval.cases.general import Passage, general_passages, guard_passages
from eval.cases.probe import load_probe
from nlirg.corpus.duplicates import near_pairs
from nlirg.errors import InputError


def test_watched_text_is_bilingual_and_varied() -> None:
    found = guard_passages("builtin")
    languages = Counter(passage.task_type.partition("/")[2] for passage in found)
    assert languages["en"] == languages["zh"] >= 60
    assert len({passage.task_type for passage in found}) >= 40
    for passage in found:
        least, most = (45, 200) if passage.task_type.endswith("zh") else (130, 350)
        assert least <= len(passage.text) <= most, passage.id


def test_what_is_watched_is_not_what_is_reported() -> None:
    found = [passage.text for passage in guard_passages("builtin")]
    reported = [passage.text for passage in general_passages(None)]
    probe = [turn.content for case in load_probe() for turn in case.messages]
    assert near_pairs(found, reported + probe) == []
    assert near_pairs(found, found) == [(i, i) for i in range(len(found))]
    assert near_pairs(found[:1], [f"  {found[0].upper()}"]) == [(0, 0)]


def test_watched_text_is_as_released(monkeypatch, tmp_path) -> None:
    changed = tmp_path / general.GUARD.name
    changed.write_bytes(general.GUARD.read_bytes() + b"\n")
    monkeypatch.setattr(general, "GUARD", changed)
    with pytest.raises(InputError, match=r"changed since.*train\.guard\.general"):
        guard_passages("builtin")


def test_watched_text_may_be_the_users(tmp_path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one", "two")))
    assert guard_passages(str(path)) == [Passage("1", "one"), Passage("2", "two")]
    path.write_text('{"text": "one"}\n{"txt": "two"}\n')
    with pytest.raises(InputError, match=r"^train\.guard\.general: .*t\.jsonl:2: needs a key"):
        guard_passages(str(path))
    with pytest.raises(InputError, match=r"^train\.guard\.general: .*buildin: cannot read"):
        guard_passages(str(tmp_path / "buildin"))
