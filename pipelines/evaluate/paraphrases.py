"""Rewordings by the base model: written once for a run, then the same for every variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.rundir import RunDirectory, fingerprint
from eval.cases.paraphrases import keep_paraphrases, paraphrase_prompts, paraphrase_requests
from eval.cases.suites import cases_hash, load_cases
from eval.generation.generate import Completion, Key, Request
from eval.schema.case import Case
from nlirg.atomic_io import write_text
from nlirg.chat.encoder import ChatEncoder
from pipelines.progress import say
from pipelines.recipe import Recipe

Ask = Callable[[Sequence[Request]], dict[Key, Completion]]


def model_paraphrases(
    recipe: Recipe,
    run: RunDirectory,
    chat: ChatEncoder,
    domain: Sequence[Case],
    *,
    base: str,
    context: int,
    ask: Ask,
) -> list[Case]:
    """The base model's rewordings of the domain cases, as robustness cases.

    They are kept in the run directory: every variant, and a restarted run, answers the same text.

    Args:
        recipe: `evaluate.model_paraphrases` says how many of each case are wanted.
        run: where they are kept.
        chat: of the base model.
        domain: the cases.
        base: identity of the base model's weights.
        context: tokens the base model can hold, prompt and answer together.
        ask: answers requests with the base model.

    Raises:
        InputError: if those of the run are of other cases, other settings or another model.
    """
    n = recipe.evaluate.model_paraphrases
    prompts = paraphrase_prompts(chat, domain, n)
    mark = fingerprint(
        {
            "cases": cases_hash(domain),
            "prompts": [prompt.sha256 for prompt in prompts],
            "context": context,
            "seed": recipe.seed,
            "model": base,
        }
    )
    stage = run.paraphrases
    path = stage.path / "cases.jsonl"
    summary = stage.finished(mark)
    if summary is None:
        made = keep_paraphrases(domain, n, ask(paraphrase_requests(prompts, context, recipe.seed)))
        write_text(path, "".join(case.model_dump_json() + "\n" for case in made.cases))
        summary = {"asked": made.asked, "kept": len(made.cases), "dropped": made.dropped}
        stage.succeed(mark, summary)
    reasons = "; ".join(f"{reason}: {count}" for reason, count in summary["dropped"].items())
    say("evaluate", f"{summary['kept']} of {summary['asked']} rewordings kept ({reasons})")
    return load_cases(path, "robustness") if summary["kept"] else []
