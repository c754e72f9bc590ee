"""Writing an arm at a scale as peft, transformers and vLLM load it, with its model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster.rundir import RunDirectory
from eval.schema.case import Strict
from nlirg.atomic_io import write_json
from nlirg.models.model_card import Layout, write_model_card
from nlirg.models.scaling import scale_adapter, scale_name
from pipelines.evaluate.answers import Scaled, Variant
from pipelines.evaluate.merged import Merging
from pipelines.evaluate.scaled import at_scale
from pipelines.progress import say
from pipelines.recipe import Recipe
from pipelines.train.stage import Train
from pipelines.train.summary import training_facts


class Exported(Strict):
    """What an export's folder holds: `exported.json` beside its answers."""

    identity: str
    layout: Layout


class Export:
    """Where an arm at a scale is written, and what comes of it.

    Attributes:
        name: `<arm>@<scale>`.
        folder: the files, and nothing else: `export/<name>/`.
        beside: what was found out about them: `export/answers/<name>/`.
    """

    def __init__(
        self, recipe: Recipe, run: RunDirectory, base: Variant, arm: Variant, scale: float
    ) -> None:
        self.name = scale_name(arm.name, scale)
        self.folder = run.path / "export" / self.name
        self.beside = run.path / "export" / "answers" / self.name
        self._recipe, self._run, self._arm, self._scale = recipe, run, arm, scale
        self._scaled = at_scale(base, arm, scale, self.beside / "weights")

    def write(self, merging: Merging, merge: bool) -> Layout:
        """Write the files, if they are not there; say which kind they are.

        Args:
            merging: writes whole models, in processes of their own.
            merge: whether an adapter is merged into the base.

        Raises:
            InputError: if the arm's files cannot be used, or a weight is not finite.
        """
        if self._arm.adapter is None:
            layout: Layout = "full"
        else:
            layout = "merged" if merge else "adapter"
        wanted = Exported(identity=self._scaled.identity, layout=layout)
        if self.folder.is_dir() and self._noted() == wanted:
            say("export", f"{self.folder}: already written")
            return layout
        shutil.rmtree(self.beside, ignore_errors=True)  # of other weights, or of the other layout
        self._write(merging, layout)
        arm = self._arm.name
        summary = Train(arm).summary(self._run)
        facts = training_facts(self._recipe, arm, summary, layout, self._scale)
        write_model_card(self.folder, facts)
        self.beside.mkdir(parents=True, exist_ok=True)
        write_json(self._note, wanted.model_dump())
        say("export", f"{self.folder}: written")
        return layout

    @property
    def adapter(self) -> Path:
        """The adapter that was merged, for the comparison with the merged model."""
        assert self._scaled.adapter is not None
        return self._scaled.adapter

    @property
    def _note(self) -> Path:
        return self.beside / "exported.json"

    def _noted(self) -> Exported | None:
        try:
            return Exported.model_validate_json(self._note.read_bytes())
        except (OSError, ValueError):  # not there, or cut short: written again
            return None

    def _write(self, merging: Merging, layout: Layout) -> None:
        scaled = self._scaled.scaled
        assert isinstance(scaled, Scaled)
        if layout == "adapter":
            scale_adapter(scaled.tuned, scaled.scale, self.folder, own=True)
        elif layout == "merged":
            scale_adapter(scaled.tuned, scaled.scale, self.adapter)
            merging.merge(self._scaled, self.folder)
        else:
            merging.interpolate(self._scaled, self.folder)
