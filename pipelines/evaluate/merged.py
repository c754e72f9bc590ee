"""Weights that are made for the evaluation: adapters and models at a scale, merged adapters."""

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
from nlirg.models.scaling import interpolate, scale_adapter
from pipelines.evaluate.answers import Scaled, Variant
from pipelines.evaluate.variant_tasks import run_each
from pipelines.progress import say
from pipelines.recipe import Recipe


@dataclass(frozen=True)
class Merging:
    """Where the models are that exist only while a run is evaluated."""

    recipe: Recipe
    run: RunDirectory

    def ready(self, variant: Variant) -> Variant:
        """Return a variant whose files are there, as the recipe's engine loads them.

        Raises:
            InputError: as `for_vllm`, or if nothing lies between the base and a full model.
        """
        if variant.scaled is not None:
            self._write_scaled(variant, variant.scaled)
        return self.for_vllm(variant) if self.recipe.evaluate.engine == "vllm" else variant

    def takes_a_model(self, variant: Variant) -> bool:
        """Return whether a variant at a scale takes the disk of a whole model while it answers.

        Raises:
            InputError: if the adapter's files cannot be used.
        """
        if variant.adapter is None or variant.scaled is None:
            return variant.adapter is None
        if self.recipe.evaluate.engine != "vllm":
            return False
        tuned = check_adapter(variant.name, variant.scaled.tuned.resolve(), variant.model)
        return bool(adapter_obstacle(tuned, variant.model))

    def _write_scaled(self, variant: Variant, scaled: Scaled) -> None:
        folder = variant.adapter or variant.model
        if folder.is_dir():  # whole, and of these very weights and scale: its name says so
            return
        if variant.adapter is not None:
            scale_adapter(scaled.tuned, scaled.scale, folder)
            return
        say("evaluate", f"{variant.name}: writing the model between the base and the tuned one")
        self.interpolate(variant, folder)

    def merge(self, variant: Variant, folder: Path) -> None:
        """Write base and adapter of a variant as one model.

        Raises:
            InputError: if a merged weight is not finite.
        """
        list(run_each(self.recipe, "merge", [variant], _merge, folder))

    def interpolate(self, variant: Variant, folder: Path) -> None:
        """Write the full model that a variant at a scale is.

        Raises:
            InputError: if nothing lies between the base and the tuned model.
        """
        list(run_each(self.recipe, "interpolate", [variant], _interpolate, folder))

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
            self.merge(variant, folder)
        return replace(variant, model=folder, adapter=None)

    def remove(self, variants: Sequence[Variant]) -> None:
        """Delete the models made of these variants, once nothing is left to be asked of them."""
        for variant in variants:
            shutil.rmtree(self._folder(variant), ignore_errors=True)
            if variant.scaled is not None and variant.adapter is None:
                shutil.rmtree(variant.model, ignore_errors=True)

    def _folder(self, variant: Variant) -> Path:
        # Of these very weights: written whole or not at all, it needs no further check.
        name = f"merged-{fingerprint(variant.identity)}"
        return self.run.evaluation(variant.name).path / name


def _merge(variant: Variant, device: Device, folder: Path) -> None:
    """Runs in a process of its own, whose memory is free again when it is done."""
    assert variant.adapter is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    export_merged(str(variant.model.resolve()), variant.adapter.resolve(), folder)


def _interpolate(variant: Variant, device: Device, folder: Path) -> None:
    """Runs in a process of its own, as `_merge` does."""
    assert variant.scaled is not None
    scaled = variant.scaled
    interpolate(scaled.base.resolve(), scaled.tuned.resolve(), scaled.scale, folder)
