"""The page of a scored corpus, `scores/report.html`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cluster.rundir import RunDirectory, write_text
from pipelines.recipe import Recipe

if TYPE_CHECKING:
    from nlirg.hygiene import Hygiene


def write(
    recipe: Recipe, run: RunDirectory, hygiene: Hygiene, quarantined: dict[str, int]
) -> Path:
    """Write `scores/report.html` from `scores/*.parquet` and `scores/duplicates/*.parquet`.

    Args:
        recipe: of the run; its model's tokenizer spells out the tokens of suspicious rows.
        run: holds the scores.
        hygiene: duplicates, commonest answers, lengths, languages.
        quarantined: reason -> rows set aside.

    Returns:
        The file written.
    """
    path = run.scores.path / "report.html"
    write_text(path, "")
    return path
