"""Selection, encoding and training's order on a real cluster, over a small scored corpus."""

from pathlib import Path

import pyarrow.dataset as pads
import pytest

from pipelines.train.encoded import read_encoded
from tests.pipelines.made_scores import BY_ROW_INDEX, ROWS, N, corpus, dropped, ids, run_with_scores
from tests.road import encode, select

pytestmark = pytest.mark.ray


def test_selected_rows_are_written_and_trained_in_the_order(
    ray_cluster: None, tmp_path: Path
) -> None:
    bands = ("high", "good")
    recipe, run = run_with_scores(tmp_path, order="filtered_rank", select={"bands": bands})
    select(recipe, run)
    kept = [row for row in ROWS if row["band"] in bands]
    kept.sort(key=lambda row: (row["filtered_rank"], row["row_index"]))
    assert ids(run) == [row["id"] for row in kept]
    assert corpus(run) == [row["row"] for row in kept]
    assert len(dropped(run)) == N - len(kept)
    summary = encode(recipe, run)
    (trained,) = read_encoded(run.encoded.path, run.scores.path / "tokens")
    assert [f"r{row['input_ids'][0]}" for row in trained.rows] == ids(run)
    assert summary.rows == len(kept)


def test_a_capped_mixture_is_the_same_from_any_files(ray_cluster: None, tmp_path: Path) -> None:
    found = []
    for files in (1, 7):
        recipe, run = run_with_scores(
            tmp_path / str(files), files, files, order="mixed", select={"per_task_type": 20}
        )
        select(recipe, run)
        found.append((ids(run), corpus(run), dropped(run)))
    assert found[0] == found[1]
    assert len(found[0][0]) == 40


def test_documents_are_packed_with_their_neighbours_in_the_order(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.encode.plan.GROUP_DOCUMENTS", 8)
    cpt = {"task": "cpt", "pack_length": 12}
    recipe, run = run_with_scores(
        tmp_path, order="easy_to_hard", encode=cpt, select={"bands": ["high", "good", "fair"]}
    )
    select(recipe, run)
    assert encode(recipe, run).documents == 45
    files = [str(path) for path in run.encoded.path.glob("*.parquet")]
    packs = pads.dataset(files).to_table().to_pylist()
    for number in range(-(-45 // 8)):
        mine = [pack["pieces"] for pack in packs if pack["rank"] >> 32 == number]
        names = {BY_ROW_INDEX[piece["row_index"]]["id"] for pack in mine for piece in pack}
        assert names == set(ids(run)[number * 8 : number * 8 + 8])
