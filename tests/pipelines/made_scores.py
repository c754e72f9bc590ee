"""A small scored corpus, and Ray Data's part of its selection done in this process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cluster.rundir import RunDirectory
from nlirg.corpus.tokens import token_table, write_token_file
from nlirg.labels import IGNORE
from pipelines.recipe import Recipe, validate
from pipelines.row_table import open_row_table
from tests.road import scored

N = 60
BANDS = ("high", "good", "fair", "suspect")
HOSTILE = 'a/b "quoted" \\ 中文 \u2028 \n tab\t 😀'
DUPLICATES = pa.schema(
    {"row_index": pa.int64(), "of": pa.string(), "kind": pa.string(), "group": pa.int64()}
)


def scored_row(number: int) -> dict[str, Any]:
    """A row as scoring leaves it; scores take few values, so that there are ties."""
    tokens = 2 + number % 5
    said = {"instruction": f"q{number} {HOSTILE}", "output": f"a{number % 7}", "extra": None}
    return {
        "id": f"r{number}",
        "row_index": (number // 25 << 32) + number % 25,
        "source": f"/corpus/{number // 25}.jsonl",
        "line": number % 25,
        "task_type": "ab"[number % 2],
        "data": 0,
        "row": json.dumps(said, ensure_ascii=False),
        "truncated": False,
        "n_tokens": tokens + 1,
        "n_trained": tokens,
        "sample_tokens": [tokens + 1],
        "sample_trained": [tokens],
        "mean_loss": float(number * 7 % 11),
        "band": BANDS[number % 4],
        "similarity_centered": (number * 5 % 9) / 9,
        "filtered_rank": float(number * 3 % 4),
    }


def scored_tokens(number: int) -> dict[str, Any]:
    """The tokens of `scored_row`."""
    row = scored_row(number)
    ids = [number] * row["n_tokens"]
    losses = [float(number)] * row["n_trained"]
    return {
        "row_index": row["row_index"],
        "input_ids": ids,
        "labels": [IGNORE, *ids[1:]],
        "token_loss": losses,
        "token_entropy": losses,
    }


ROWS = [scored_row(number) for number in range(N)]
BY_ROW_INDEX = {row["row_index"]: row for row in ROWS}


def same_answers(kind: str = "exact") -> list[dict[str, Any]]:
    """Rows with one answer: every seventh."""
    return [
        {
            "row_index": ROWS[number]["row_index"],
            "of": "answer",
            "kind": kind,
            "group": ROWS[number % 7]["row_index"],
        }
        for number in range(N)
    ]


def run_with_scores(
    folder: Path, files: int = 3, seed: int = 0, **settings: Any
) -> tuple[Recipe, RunDirectory]:
    """A run whose scores lie in so many files, their rows shuffled among them."""
    raw = {"name": "a", "storage": str(folder), "model": "none", "data": ["none.jsonl"]}
    recipe = validate(raw | settings, "test")
    run = RunDirectory(recipe.storage, recipe.name)
    order = np.random.default_rng(seed).permutation(N)
    (run.scores.path / "duplicates").mkdir(parents=True)
    for number, part in enumerate(np.array_split(order, files)):
        table = pa.Table.from_pylist([ROWS[index] for index in part])
        pq.write_table(table, run.scores.path / f"{number}.parquet")
        write_tokens(
            run.scores.path / "tokens", f"{number}.arrow", [scored_tokens(index) for index in part]
        )
    table = pa.Table.from_pylist([*same_answers(), *same_answers("near")], schema=DUPLICATES)
    pq.write_table(table, run.scores.path / "duplicates" / "answer.parquet")
    run.scores.succeed("scored", scored(rows=N))
    return recipe, run


TOKENS_SCHEMA = pa.schema(
    {
        "row_index": pa.int64(),
        **dict.fromkeys(("input_ids", "labels"), pa.list_(pa.int32())),
        **dict.fromkeys(("token_loss", "token_entropy"), pa.list_(pa.float32())),
    }
)


def write_tokens(
    folder: Path, name: str, rows: list[dict[str, Any]], entropy: bool = False
) -> None:
    """Write a token file into `scores/tokens/` or `replay/tokens/`, as its stage does."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, TOKENS_SCHEMA)
    write_token_file(folder / name, token_table(table, entropy))


def corpus(run: RunDirectory) -> list[str]:
    """Lines of the selected corpus."""
    files = sorted(run.selected.path.glob("corpus-*.jsonl"))
    return [line for file in files for line in file.read_bytes().decode().split("\n") if line]


def dropped(run: RunDirectory) -> list[dict[str, Any]]:
    text = (run.selected.path / "dropped.jsonl").read_text()
    return [json.loads(line) for line in text.split("\n") if line]


def ids(run: RunDirectory) -> list[str]:
    """Ids of the selected rows in order, as the index has them."""
    table = open_row_table(run.selected.path / "index.arrow").sort_by("rank")
    assert table["rank"].to_pylist() == list(range(table.num_rows))
    return [BY_ROW_INDEX[row_index]["id"] for row_index in table["row_index"].to_pylist()]


class LocalRows:
    """What selection asks of a Ray dataset, with the freedoms Ray takes.

    Batches are of any rows, and the names of sorted files say nothing of their order.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def read(cls, files: list[str], columns: list[str]) -> "LocalRows":
        return cls(pads.dataset(files).to_table(columns))

    def map_batches(self, judge: Callable[[pa.Table], pa.Table], **options: Any) -> "LocalRows":
        size = max(1, self.table.num_rows // 3)
        parts = [judge(self.table.slice(i, size)) for i in range(0, self.table.num_rows, size)]
        return LocalRows(pa.concat_tables(parts))

    def sort(self, keys: list[str]) -> "LocalRows":
        return LocalRows(self.table.sort_by([(key, "ascending") for key in keys]))

    def write_parquet(self, folder: str) -> None:
        Path(folder).mkdir(parents=True)
        size = -(-self.table.num_rows // 4)
        for number, name in enumerate("cadbe"):  # the last is empty
            pq.write_table(self.table.slice(number * size, size), f"{folder}/{name}.parquet")

    def groupby(self, key: str, num_partitions: int) -> "LocalRows":
        assert num_partitions >= 1
        self.key = key
        return self

    def map_groups(self, write: Callable[[pa.Table], pa.Table], **options: Any) -> "LocalRows":
        keys = self.table[self.key].to_numpy()
        shuffled = np.random.default_rng(0).permutation(np.unique(keys))
        return LocalRows(pa.concat_tables([write(self.table.filter(keys == k)) for k in shuffled]))

    def iter_batches(self) -> Iterator[dict[str, np.ndarray]]:
        yield {name: self.table[name].to_numpy() for name in self.table.column_names}
