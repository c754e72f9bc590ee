"""Variants whose adapter vLLM cannot serve as one, merged into a full model for the evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.rundir import RunDirectory, fingerprint
from eval.generation.adapters import check_adapter
from eval.generation.generate import Device
from eval.generation.serving import adapter_obstacle
from nlirg.models.export import export_merged
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.variant_tasks import run_each
from pipelines.progress import say
from pipelines.recipe import Recipe


@dataclass(frozen=True)
class Merging:
    """Where merged models are, while a run is evaluated."""

    recipe: Recipe
    run: RunDirectory

    def for_vllm(self, variant: Variant) -> Variant:
        """Return a variant as vLLM can load it: as it is, or its adapter merged into the base.

        A merged model is kept in `eval/<variant>/` until `remove`, also where an evaluation is
        stopped and continued.

        Raises:
            InputError: if the adapter's files cannot be used, or a merged weight is not finite.
        """
        if variant.adapter is None:
            return variant
        adapter = check_adapter(variant.name, variant.adapter.resolve(), variant.model)
        obstacle = adapter_obstacle(adapter, variant.model)
        if not obstacle:
            return variant
        folder = variant.adapter.with_name("merged")  # with `train.lora.merge` training left it
        if not folder.is_dir():
            folder = self._folder(variant)
        if not folder.is_dir():
            say("evaluate", f"{variant.name}: evaluated merged into its base, since {obstacle}")
            list(run_each(self.recipe, "merge", [variant], _merge, folder))
        return replace(variant, model=folder, adapter=None)

    def remove(self, variants: Sequence[Variant]) -> None:
        """Delete the merged models, once nothing is left to be asked."""
        for variant in variants:
            shutil.rmtree(self._folder(variant), ignore_errors=True)

    def _folder(self, variant: Variant) -> Path:
        # Of these very weights: written whole or not at all, it needs no further check.
        name = f"merged-{fingerprint(variant.identity)}"
        return self.run.evaluation(variant.name).path / name


def _merge(variant: Variant, device: Device, folder: Path) -> None:
    """Runs in a process of its own, whose memory is free again when it is done."""
    assert variant.adapter is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    export_merged(str(variant.model.resolve()), variant.adapter.resolve(), folder)
