"""A model's folder as transformers reads it, for programs that would take other files in it first.

Beside the usual files Mistral's models hold the same weights once more, and a tokenizer without a
chat template; vLLM would load both sets of weights, or the other tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from eval.generation.generate import EngineSpec
from nlirg.models.weight_files import FOREIGN_WEIGHTS, weight_files

FOREIGN_SETTINGS = "params.json"
FOREIGN_TOKENIZER = "tekken.json"


@contextmanager
def plain_folders(spec: EngineSpec) -> Iterator[EngineSpec]:
    """Yield the engine's specification with plain folders, which are there while it starts."""
    with _plain(spec.model) as model, _plain(spec.tokenizer) as tokenizer:
        yield replace(spec, model=model, tokenizer=tokenizer)


@contextmanager
def _plain(name: str) -> Iterator[str]:
    """Yield the folder itself if it is plain, else one of links to those files that belong."""
    folder = Path(name)
    foreign = foreign_files(folder)
    if not foreign:
        yield name
        return
    with TemporaryDirectory() as links:
        for path in set(folder.iterdir()) - foreign:
            Path(links, path.name).symlink_to(path.resolve())
        yield links


def foreign_files(folder: Path) -> set[Path]:
    """Return the files of a model's folder that are for other programs alone."""
    foreign = {*folder.glob("*.safetensors")} - {*weight_files(folder)}
    foreign |= {*folder.glob(FOREIGN_WEIGHTS)}
    if (folder / "config.json").is_file():
        foreign |= {*folder.glob(FOREIGN_SETTINGS)}
    if (folder / "tokenizer.json").is_file():
        foreign |= {*folder.glob(FOREIGN_TOKENIZER)}
    return foreign
