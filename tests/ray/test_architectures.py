"""Adapters of every architecture on real vLLM engines: served or merged, they answer as peft's."""

import pytest

from eval.generation.adapters import check_adapter
from eval.generation.generate import EngineSpec, Request
from eval.generation.samples import read_samples, samples_path
from eval.generation.serving import SERVED, engine_obstacle
from eval.generation.transformers_engine import TransformersEngine
from nlirg.models.loading import model_skeleton
from tests.architectures import SETTINGS, add_foreign_files, save_architecture, save_lora
from tests.ray.trained import trained_run
from tests.road import evaluate

pytestmark = [pytest.mark.ray, pytest.mark.vllm]

NEW_TOKENS = 16
# One that is served, and one whose names do not fit; all others as `soak`.
QUICK = ("phi3", "glm4")
CASES = [
    *((name, 4) for name in QUICK),
    *(
        pytest.param(name, rank, marks=pytest.mark.soak)
        for name, rank in [*((n, 4) for n in SETTINGS if n not in QUICK), ("llama", 600)]
    ),
]


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_an_adapter_answers_as_with_peft(
    name, rank, tiny_tokenizer, ray_cluster, tmp_path, capfd
) -> None:
    base = save_architecture(tmp_path / "base", name, tiny_tokenizer)
    if name == "mistral":
        add_foreign_files(base)
    if obstacle := engine_obstacle(base):
        pytest.skip(obstacle)
    recipe, run = trained_run(
        base,
        tmp_path,
        "run",
        save=lambda base, folder: save_lora(base, folder, rank),
        max_cases=6,
        max_new_tokens=NEW_TOKENS,
        flip_samples=0,
        max_error_share=0.5,
    )
    evaluate(recipe, run)
    served = type(model_skeleton(str(base))).__name__ in SERVED and rank <= 512
    told = " ".join("".join(capfd.readouterr()).split())  # the terminal breaks lines
    assert ("nlirg: evaluated merged into its base, since vLLM" in told) != served
    assert not list(run.evaluation("nlirg").path.glob("merged*"))
    adapter = check_adapter("nlirg", run.arm("nlirg").path / "model", base)
    stop = (tiny_tokenizer.eos_token_id,)
    peft = TransformersEngine(EngineSpec(str(base), str(base), "cpu", 128, stop, (adapter,)))
    answers = {}
    for variant, chosen in (("base", None), ("nlirg", "nlirg")):
        samples = read_samples(samples_path(run.evaluation(variant).path, "domain"))
        asked = [sample for sample in samples if not sample.error]
        requests = [
            Request(
                ("domain", s.case_id), tuple(tiny_tokenizer(s.prompt).input_ids), NEW_TOKENS, 0, 0
            )
            for s in asked
        ]
        answers[variant] = [sample.answer for sample in asked]
        expected = [completion.text for completion in peft.generate(requests, chosen)]
        assert answers[variant] == expected
    assert answers["base"] != answers["nlirg"]
