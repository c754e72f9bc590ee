"""One variant's answers on disk: written as they come, resumed, and put in order at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.rundir import StageFolder
from eval.cases.suites import cases_hash
from eval.config import EvaluateConfig
from eval.generation.generate import (
    Completion,
    Key,
    Prompt,
    Request,
    error_sample,
    judge_again,
    make_request,
    make_sample,
    refusal,
)
from eval.generation.harness_format import harness_results
from eval.generation.samples import append_samples, resume_samples, rows_text, samples_path
from eval.schema.case import SUITES, Suite
from eval.schema.sample import Sample
from nlirg.atomic_io import write_json, write_text


@dataclass(frozen=True)
class Scaled:
    """What a variant is made from: an arm's trained adapter or model, at a scale."""

    base: Path
    tuned: Path
    scale: float


@dataclass(frozen=True)
class Variant:
    """One model to evaluate: the base, the base with an adapter, or a full model.

    The files of a `scaled` one are written when they are needed (`pipelines.evaluate.merged`).
    """

    name: str
    model: Path
    adapter: Path | None
    identity: str  # hash of every weight it consists of, and of their scale
    scaled: Scaled | None = None


@dataclass
class Answers:
    """One variant's prompts, and its samples on disk and in memory.

    Attributes:
        variant: whose answers they are.
        stage: where they are kept.
        mark: of what decides the answers.
        judging: hash of what decides how they are judged.
        prompts: all that are asked.
        samples: those that are there.
    """

    variant: Variant
    stage: StageFolder
    mark: str
    judging: str
    prompts: Sequence[Prompt]
    samples: dict[Key, Sample] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all prompts are answered, and judged as they are to be judged now.

        Raises:
            InputError: if they were answered with other settings.
        """
        summary = self.stage.finished(self.mark)
        return summary is not None and summary.get("judging") == self.judging

    def resume(self, config: EvaluateConfig, context: int) -> None:
        """Take over the answers that are there, judged as they are to be judged now.

        Answers are expensive and judging them is not. An answer to a prompt that is not asked any
        more is forgotten.

        Args:
            config: as the answers were generated with.
            context: tokens the model can hold, prompt and answer together.

        Raises:
            InputError: if they were left by a run with other settings.
        """
        if not self.stage.claim(self.mark):
            return
        for suite in SUITES:
            for sample in resume_samples(samples_path(self.stage.path, suite)):
                prompt = self._by_key.get((sample.suite, sample.case_id))
                if prompt is None or sample.prompt_sha256 != prompt.sha256:
                    continue
                if reason := refusal(prompt, config, context):
                    self.samples[prompt.key] = error_sample(prompt, reason)
                    continue
                allowed = make_request(prompt, config, context, seed=0).max_tokens
                if (judged := judge_again(sample, prompt, allowed)) is not None:
                    self.samples[prompt.key] = judged
        # It stands for these answers and this judgement; what is to come may be stopped halfway.
        self.stage.marker.unlink(missing_ok=True)

    @property
    def missing(self) -> list[Prompt]:
        """The prompts that have no sample yet."""
        return [prompt for prompt in self.prompts if prompt.key not in self.samples]

    def take(self, requests: Sequence[Request], completions: Sequence[Completion]) -> None:
        """Judge answers and keep them.

        Args:
            requests: of some of the prompts.
            completions: one a request, in the same order.
        """
        pairs = zip(requests, completions, strict=True)
        self.add([make_sample(self._by_key[request.key], answer) for request, answer in pairs])

    @cached_property
    def _by_key(self) -> dict[Key, Prompt]:
        return {prompt.key: prompt for prompt in self.prompts}

    def add(self, samples: Sequence[Sample]) -> None:
        """Keep more samples, on disk first."""
        by_suite = defaultdict(list)
        for sample in samples:
            by_suite[sample.suite].append(sample)
        for suite, part in by_suite.items():
            append_samples(samples_path(self.stage.path, suite), part)
        self.samples |= {(sample.suite, sample.case_id): sample for sample in samples}

    def finish(self, settings: dict[str, Any]) -> None:
        """Write the files anew in the order of the cases, the results, and the marker."""
        found: dict[Suite, list[Sample]] = {}
        hashes: dict[Suite, str] = {}
        for suite in SUITES:
            cases = [prompt.case for prompt in self.prompts if prompt.case.suite == suite]
            if not cases:
                samples_path(self.stage.path, suite).unlink(missing_ok=True)
                continue
            found[suite] = [self.samples[suite, case.id] for case in cases]
            hashes[suite] = cases_hash(cases)
            write_text(samples_path(self.stage.path, suite), rows_text(found[suite]))
        suites = {
            suite: suite_results(samples) | {"cases_hash": hashes[suite]}
            for suite, samples in found.items()
        }
        own = {"variant": self.variant.name, "suites": suites, "settings": settings}
        harness = harness_results(self.variant.name, found, hashes, settings)
        write_json(self.stage.path / "results_all.json", own | harness)
        summary = {"suites": suites, "identity": self.variant.identity, "judging": self.judging}
        self.stage.succeed(self.mark, summary)


def suite_results(samples: Sequence[Sample]) -> dict[str, Any]:
    """Plain numbers of one suite; answers that could not be generated score 0.

    The rates of how answers end are None where none was generated.
    """
    answered = [sample for sample in samples if sample.finish_reason != "error"]
    generated = [sample for sample in answered if sample.generated]
    stopped = sum(sample.finish_reason == "stop" for sample in generated)
    runaways = sum(sample.runaway for sample in generated)
    return {
        "n": len(samples),
        "errors": len(samples) - len(answered),
        "mean_score": sum(sample.score for sample in samples) / len(samples),
        "accuracy": sum(sample.correct for sample in samples) / len(samples),
        "stop_rate": stopped / len(generated) if generated else None,
        "runaway_rate": runaways / len(generated) if generated else None,
        "tokens": sum(sample.tokens for sample in samples),
    }
