import json

import datasets
import pytest

from nlirg.config.corpus import DataConfig
from nlirg.corpus import hub
from nlirg.corpus.reader import read_shard
from nlirg.corpus.sources import list_shards
from nlirg.errors import InputError

ROWS = [{"question": f"q{n}", "answer": "yes" * n} for n in range(1, 40)]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub._from_hub.cache_clear()
    hub._from_folder.cache_clear()


def read(source: DataConfig, **options) -> list:
    shards = list_shards([source], **options)
    return [row for shard in shards for row in read_shard(shard, source)]


@pytest.fixture
def repository(tmp_path):
    """What a dataset's repository on the hub holds: files by split."""
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    for split, rows in (("train", ROWS), ("test", ROWS[:3])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return folder


def test_a_dataset_by_name_is_read_in_ranges_of_rows(repository) -> None:
    source = DataConfig(path=f"hf://{repository}")
    for size in (1, 500, 1 << 20):
        found = read(source, shard_bytes=size)
        assert [(row.line, row.value) for row in found] == list(enumerate(ROWS, start=1))
    assert found[0].source == f"hf://{repository}:train"
    assert len(list_shards([source], shard_bytes=500)) > 1


def test_splits_are_different_sources(repository) -> None:
    splits = [DataConfig(path=f"hf://{repository}", split=split) for split in ("train", "test")]
    shards = list_shards(splits)
    assert [(shard.stop, shard.data) for shard in shards] == [(39, 0), (3, 1)]
    assert len(read(DataConfig(path=f"hf://{repository}", split="train[:5]"))) == 5


def test_a_dataset_that_changes_between_cutting_and_reading_is_an_error(repository) -> None:
    source = DataConfig(path=f"hf://{repository}")
    (shard,) = list_shards([source])
    (repository / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\n" * 9)
    hub._from_hub.cache_clear()  # a worker loads it anew
    with pytest.raises(InputError, match=f"has changed from {shard.version} to"):
        list(read_shard(shard, source))
    assert list_shards([source])[0].version != shard.version


def test_saved_datasets_are_known_by_their_files(tmp_path) -> None:
    features = datasets.Features(
        question=datasets.Value("string"), answer=datasets.ClassLabel(names=["no", "yes"])
    )
    rows = [{"question": "q", "answer": label} for label in (0, 1, None, -1)]
    data = datasets.Dataset.from_list(rows, features=features)
    data.save_to_disk(tmp_path / "one")
    data.select([3, 1]).save_to_disk(tmp_path / "some")
    datasets.DatasetDict(train=data, test=data.select([1])).save_to_disk(tmp_path / "all")

    def answers(folder: str, **options) -> list:
        found = read(DataConfig(path=str(tmp_path / folder), **options), shard_bytes=1)
        return [row.value["answer"] for row in found]

    assert answers("one") == answers("all") == ["no", "yes", None, -1]
    assert answers("some") == [-1, "yes"]
    assert answers("all", split="test") == ["yes"]
    (row,) = read(DataConfig(path=str(tmp_path / "all"), split="test"))
    assert row.source == str(tmp_path / "all" / "test")
    with pytest.raises(InputError, match="has no split 'dev', only test, train"):
        read(DataConfig(path=str(tmp_path / "all"), split="dev"))


def test_turns_keep_no_fields_that_only_others_have(tmp_path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "tool", "content": "a", "name": "f"}]
    datasets.Dataset.from_list([{"messages": turns}]).save_to_disk(tmp_path / "one")
    assert read(DataConfig(path=str(tmp_path / "one")))[0].value == {"messages": turns}


def test_what_cannot_be_loaded_is_told_in_a_line(repository, tmp_path) -> None:
    (tmp_path / "broken").mkdir()
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / "broken" / name).write_text("{")
    cases = [
        (
            DataConfig(path="hf://owner/nothing"),
            "hf://owner/nothing: cannot load it: Couldn't reach",
        ),
        (DataConfig(path=f"hf://{repository}", split="dev"), 'Unknown split "dev"'),
        (DataConfig(path=f"hf://{repository}", config="big"), "'big' not found"),
        (DataConfig(path=str(tmp_path / "broken")), "broken: cannot load the saved dataset"),
    ]
    for source, reason in cases:
        with pytest.raises(InputError, match=reason) as caught:
            list_shards([source])
        assert "\n" not in str(caught.value)
