"""The README.md beside a trained model: what it is, how it came about, how to load it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from nlirg.config.training import TrainConfig

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

# Values of `max_lora_rank` that vLLM takes.
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

HOW = """\
## How it was trained

With NLIRG's windowed trainer: every token's loss is weighted by where that loss lies, and each
optimizer step trains a window of a few tokens of every sample, so that the losses it weighs are
current.
"""


Layout = Literal["full", "adapter", "merged"]


@dataclass(frozen=True)
class TrainingFacts:
    """What a model card tells of a run.

    Attributes:
        base_model: the base model's name as the user gave it.
        layout: what the directory holds: a whole model, an adapter, or both merged into one.
        train: settings of the run.
        seed: of everything random.
        steps: optimizer steps made.
        trained_tokens: tokens whose loss was trained, summed over epochs.
        metrics: final numbers by name, e.g. `validation loss`.
        versions: version of each library by name.
        scale: strength of what was trained: 0 would be the base model, 1 is the trained one.
    """

    base_model: str
    layout: Layout
    train: TrainConfig
    seed: int
    steps: int
    trained_tokens: int
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    scale: float = 1.0


def write_model_card(directory: Path, facts: TrainingFacts) -> None:
    """Write `README.md` into a model's directory, over the one that peft may have left there."""
    sections = [_summary(facts), HOW, _table(_settings(facts)), _loading(facts)]
    if facts.metrics:
        numbers = {name: f"{value:.6g}" for name, value in facts.metrics.items()}
        sections.append("## Final metrics\n\n" + _table(numbers))
    if facts.versions:
        sections.append("## Versions\n\n" + _table(facts.versions))
    text = "\n".join([_front_matter(facts), *sections])
    (directory / "README.md").write_text(text, encoding="utf-8")


def _front_matter(facts: TrainingFacts) -> str:
    """Return the metadata that the hub reads; a licence is the owner's to choose."""
    metadata: dict[str, object] = {
        "library_name": "peft" if facts.layout == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["nlirg", *(["lora"] if facts.train.lora else [])],
    }
    if HUB_ID.fullmatch(facts.base_model):  # the hub refuses anything else
        metadata["base_model"] = facts.base_model
        relation = "adapter" if facts.layout == "adapter" else "finetune"
        metadata["base_model_relation"] = relation
    return f"---\n{yaml.safe_dump(metadata, allow_unicode=True)}---\n"


def _summary(facts: TrainingFacts) -> str:
    what = {
        "full": "A fine-tuned model; its base is",
        "adapter": "A LoRA adapter; its base model is",
        "merged": "A base model and a LoRA adapter merged into one; the base is",
    }[facts.layout]
    return f"# Fine-tuned with NLIRG\n\n{what} {_code(facts.base_model)}.\n{_scaled(facts)}"


def _scaled(facts: TrainingFacts) -> str:
    """Return how strong the trained weights are in it; empty at full strength."""
    if facts.scale == 1:
        return ""
    how = {
        "full": "every weight is base + scale · (tuned - base)",
        "adapter": "its `lora_alpha` is the trained one, below, times the scale",
        "merged": "the adapter was multiplied by the scale before it was merged",
    }[facts.layout]
    return f"\nScale {facts.scale:g} of what was trained (0: the base model): {how}.\n"


def _settings(facts: TrainingFacts) -> dict[str, object]:
    train = facts.train
    rows: dict[str, object] = {f"weighting: {k}": v for k, v in _flat(train.weighting.model_dump())}
    rows |= {
        "normalizer": train.normalizer,
        "token_batch": train.token_batch,
        "batch_size": train.batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "gradient_context": train.gradient_context,
        "learning_rate": train.learning_rate,
        "schedule": train.schedule,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "precision": train.precision,
        "epochs": train.epochs,
        "optimizer steps": facts.steps,
        "trained tokens": facts.trained_tokens,
        "seed": facts.seed,
    }
    if train.lora is not None:
        lora = train.lora.model_dump(exclude={"resume_from", "merge"})
        rows |= {f"lora: {key}": value for key, value in _flat(lora)}
    if train.distillation is not None:
        rows["distillation: label_share"] = train.distillation.label_share
    return rows


def _flat(section: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in section.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            shown = ", ".join(value) if isinstance(value, tuple) else value
            rows.append((f"{prefix}{key}", shown))
    return rows


def _table(rows: dict[str, object] | dict[str, str]) -> str:
    lines = [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def _cell(value: object) -> str:
    return _code(str(value)).replace("|", "\\|")


def _code(text: str) -> str:
    """Format text as a Markdown code span: nothing is interpreted; one line, no backticks."""
    return f"`{' '.join(text.replace('`', chr(39)).split()) or ' '}`"


def _loading(facts: TrainingFacts) -> str:
    parts = ["## How to load it\n\n`PATH` is this directory, or its name on the hub."]
    if facts.layout == "adapter":
        parts.append(_python(ADAPTER_PEFT, facts))
        if facts.train.lora is not None and vllm_rank(facts.train.lora.rank) is not None:
            parts.append(_python(ADAPTER_VLLM, facts))
    else:
        parts += [_python(FULL_TRANSFORMERS, facts), _python(FULL_VLLM, facts)]
    return "\n\n".join(parts) + "\n"


def _python(template: str, facts: TrainingFacts) -> str:
    # JSON strings are Python strings, whatever quotes and line breaks a name holds.
    code = template.replace("BASE", json.dumps(facts.base_model).replace("`", "\\x60"))
    if facts.train.lora is not None:
        code = code.replace("MAX_RANK", str(vllm_rank(facts.train.lora.rank)))
    return f"```python\n{code}```"


def vllm_rank(rank: int) -> int | None:
    """Return the smallest limit of vLLM that an adapter's rank fits; None above all of them."""
    return min((limit for limit in VLLM_RANKS if limit >= rank), default=None)


FULL_TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("PATH")
"""

FULL_VLLM = """\
from vllm import LLM

llm = LLM("PATH")
print(llm.chat([{"role": "user", "content": "..."}]))
"""

ADAPTER_PEFT = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained(BASE, dtype="auto")
model = PeftModel.from_pretrained(base, "PATH")
tokenizer = AutoTokenizer.from_pretrained("PATH")
"""

ADAPTER_VLLM = """\
from vllm import LLM
from vllm.lora.request import LoRARequest

llm = LLM(BASE, enable_lora=True, max_lora_rank=MAX_RANK)
adapter = LoRARequest("tuned", 1, "PATH")
print(llm.chat([{"role": "user", "content": "..."}], lora_request=adapter))
"""
