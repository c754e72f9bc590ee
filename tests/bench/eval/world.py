"""What is asked of what: the demo's base model and prompts, and adapters made on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.cases.suites import load_cases
from eval.config import EvaluateConfig
from eval.generation.adapters import check_adapter
from eval.generation.generate import EngineSpec, Prompt, Request, make_request, render
from eval.generation.serving import DENSE
from eval.schema.case import Case
from nlirg.config.corpus import EncodeConfig
from nlirg.models.chat import load_chat, stop_ids

DEMO = Path(__file__).parents[3] / "pipelines" / "demo"
BASE = DEMO / "base_model"
CONFIG = EvaluateConfig(max_prompt_tokens=512, max_new_tokens=96)
CONTEXT = CONFIG.max_prompt_tokens + CONFIG.max_new_tokens
RANK, ALPHA = 8, 16
NOISE = 0.2  # of an adapter's B: enough to change most answers


def demo_cases() -> list[Case]:
    """The demo's domain cases and then its general ones."""
    domain = load_cases(DEMO / "data" / "domain_cases.jsonl", "domain")
    return domain + load_cases(DEMO / "data" / "ood_cases.jsonl", "ood")


def demo_requests(cases: Sequence[Case]) -> tuple[Request, ...]:
    """What the evaluation asks of the demo's base model, greedily."""
    prompts: list[Prompt] = render(load_chat(str(BASE), EncodeConfig()), cases)
    return tuple(make_request(prompt, CONFIG, CONTEXT, seed=0) for prompt in prompts)


def demo_spec(*adapters: Path) -> EngineSpec:
    """An engine of the demo's base model with adapters, named after their folders."""
    return EngineSpec(
        model=str(BASE),
        tokenizer=str(BASE),
        device="cpu",
        context=CONTEXT,
        stop_ids=stop_ids(load_chat(str(BASE), EncodeConfig())),
        adapters=tuple(check_adapter(path.name, path, BASE) for path in adapters),
    )


def make_adapters(folder: Path, count: int) -> list[Path]:
    """Random LoRA adapters, each of which changes the base model's answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    paths = []
    for number in range(count):
        torch.manual_seed(number)
        model = AutoModelForCausalLM.from_pretrained(BASE)
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=sorted(DENSE))
        tuned = get_peft_model(model, config)
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=NOISE)
        paths.append(folder / f"adapter{number}")
        tuned.save_pretrained(paths[-1])
    return paths
