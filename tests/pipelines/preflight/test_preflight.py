import io
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

from nlirg.preflight import loss_checks
from nlirg.preflight.corpus_checks import Check
from pipelines import cli
from pipelines.preflight.examine import examine
from pipelines.preflight.table import table, verdict
from pipelines.recipe import load_recipe
from tests.architectures import save_architecture

DEMO = Path("pipelines/demo/recipe.yaml")
ROWS = [{"instruction": f"is {n} the question", "output": f"the answer is {n}"} for n in range(40)]
LONG = [{"instruction": "is it", "output": f"the answer is {n} " * 30} for n in range(40)]


@pytest.fixture
def write(tiny_model_dir, tmp_path):
    """A recipe for the tiny model on given rows."""

    def make(rows: list, **settings: object) -> Path:
        data = tmp_path / "c.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        recipe = {
            "name": "r",
            "storage": str(tmp_path / "runs"),
            "model": str(tiny_model_dir),
            "data": [str(data)],
            "score": {"precision": "fp32"},
            "train": {"precision": "fp32", "zero_stage": 1, "lora": {}},
        }
        path = tmp_path / "r.yaml"
        path.write_text(yaml.safe_dump(recipe | settings))
        return path

    return make


def examined(path: Path, *overrides: str) -> dict[str, Check]:
    return {check.name: check for check in examine(load_recipe(path, overrides).located())}


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["nlirg", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_a_sound_corpus_passes_every_check_of_it(write) -> None:
    checks = examined(write(ROWS))
    for name in ("rows", "lengths", "truncation", "end of turn", "round trip", "vocabulary"):
        assert checks[name].status == "ok", checks[name]
    for name in ("duplicates", "special tokens", "plan", "memory", "LoRA", "precision"):
        assert checks[name].status == "ok", checks[name]
    assert "40 of 40 sampled rows usable" in checks["rows"].measured
    assert checks["plan"].measured.startswith("nlirg: ")


@pytest.mark.parametrize(
    ("rows", "overrides", "name", "status"),
    [
        ([*ROWS, {"instruction": "x"}, "text"], [], "rows", "warn"),
        ([{"instruction": "x"}], [], "rows", "fail"),
        ([row | {"id": n % 30} for n, row in enumerate(ROWS)], [], "ids", "fail"),
        (LONG, ["encode.max_length=100"], "end of turn", "fail"),
        (LONG, ["encode.max_length=100"], "truncation", "warn"),
        ([ROWS[0]] * 40, [], "duplicates", "fail"),
        (
            [{"instruction": "x", "output": "知识" * n} for n in range(50, 60)],
            [],
            "vocabulary",
            "warn",
        ),
        (ROWS, ["train.lora.target_modules=[c_attn]"], "LoRA", "fail"),
        (ROWS, ["holdout=40"], "plan", "fail"),
        (ROWS, ["holdout=20", "train.validation={rows: 20}"], "plan", "fail"),
    ],
)
def test_planted_faults_are_found(write, rows, overrides, name, status) -> None:
    assert examined(write(rows), *overrides)[name].status == status


def spoiled(model: Path, target: Path, change) -> Path:
    """A copy of a model with changed weights."""
    target.mkdir()
    for file in model.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = load_file(target / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    return target


def test_untrained_special_tokens_are_named(write, tiny_model_dir, tiny_tokenizer, tmp_path):
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")

    def forget(weights: dict[str, torch.Tensor]) -> None:
        weights["model.embed_tokens.weight"][end] *= 0.001

    model = spoiled(tiny_model_dir, tmp_path / "model", forget)
    check = examined(write(ROWS), f"model={model}")["special tokens"]
    assert check.status == "warn"
    assert "<|im_end|> looks untrained" in check.measured
    assert "<|im_start|>" not in check.measured
    assert "LoRA (nlirg)" in check.advice


def test_weights_with_nan_fail(write, tiny_model_dir, tmp_path) -> None:
    def break_norm(weights: dict[str, torch.Tensor]) -> None:
        weights["model.norm.weight"][0] = float("nan")

    model = spoiled(tiny_model_dir, tmp_path / "model", break_norm)
    check = examined(write(ROWS), f"model={model}")[loss_checks.LOSS]
    assert check.status == "fail"
    assert "NaN" in check.measured


def test_a_model_too_large_for_this_machine_is_not_measured_and_not_ok(write, monkeypatch) -> None:
    monkeypatch.setattr(loss_checks, "CPU_WORK", 1.0)
    checks = examined(write(ROWS))
    assert checks[loss_checks.LOSS].status == "warn"
    assert "NLIRG" not in checks
    assert checks["plan"].status == "ok"


def test_an_end_token_that_the_models_settings_ignore_is_told(write, tiny_model_dir, tmp_path):
    model = spoiled(tiny_model_dir, tmp_path / "model", lambda weights: None)
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"eos_token": "<|endoftext|>"}
    path.write_text(json.dumps(settings))
    (model / "generation_config.json").write_text("{}")
    check = examined(write(ROWS), f"model={model}")["end of turn"]
    assert check.status == "warn"
    assert "do not stop at <|im_end|>" in check.measured


def test_an_arm_of_its_own_plan_gets_its_own_line(write) -> None:
    arms = {"a": {}, "b": {"weighting": "uniform"}, "c": {"token_batch": 2}}
    checks = examine(load_recipe(write(ROWS, arms=arms)).located())
    plans = [check.measured.partition(":")[0] for check in checks if check.name == "plan"]
    assert plans == ["a, b", "c"]


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("gpt2", "8 of 8 linear layers get an adapter"),
        ("qwen3_moe", "get an adapter; experts (35% of the weights) are no such layers"),
    ],
)
def test_what_gets_an_adapter_is_told(write, tiny_tokenizer, tmp_path, name, measured) -> None:
    base = save_architecture(tmp_path / "model", name, tiny_tokenizer)
    checks = examined(write(ROWS), f"model={base}")
    assert (checks["LoRA"].status, checks["evaluation"].status) == ("ok", "ok")
    assert measured in checks["LoRA"].measured
    assert "is merged into it for that (vLLM" in checks["evaluation"].measured


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="vLLM may run what sees")
def test_a_model_that_vllm_cannot_run_here_fails_until_the_engine_is_another(
    write, tiny_tokenizer, tmp_path, monkeypatch, capsys
) -> None:
    base = save_architecture(tmp_path / "model", "gemma3", tiny_tokenizer)
    path = write(ROWS, holdout=4)
    found = examined(path, f"model={base}")["evaluation"]
    assert found.status == "fail"
    assert "package torchvision, which is not installed; set evaluate.engine=" in found.measured
    assert call(monkeypatch, "run", path, f"model={base}") == 2
    assert "evaluate.engine=transformers" in capsys.readouterr().err
    other = examined(path, f"model={base}", "evaluate.engine=transformers")
    assert other["evaluation"].status == "ok"
    assert other["LoRA"].measured == "14 of 14 linear layers get an adapter"


def test_plain_text_gets_the_checks_that_make_sense(write) -> None:
    rows = [{"text": f"the question is {n} " * 9} for n in range(30)]
    path = write(rows, encode={"task": "cpt", "pack_length": 64})
    checks = examined(path)
    assert not {"truncation", "end of turn", "end token's loss"} & checks.keys()
    for name in ("rows", "lengths", "round trip", "vocabulary", "duplicates", "plan"):
        assert checks[name].status == "ok", checks[name]
    assert "holdout" in examined(path, "holdout=5")["plan"].measured


def test_it_writes_nothing_and_exits_by_what_it_found(write, monkeypatch, capsys, tmp_path) -> None:
    path = write(ROWS)
    assert call(monkeypatch, "doctor", path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {"name", "status", "measured", "advice"} == told[0].keys()
    assert {check["status"] for check in told} <= {"ok", "warn"}
    assert call(monkeypatch, "doctor", path, "holdout=40") == 2
    assert "no row is left to train on" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "runs").exists()


def test_unreadable_input_is_one_line(write, monkeypatch, capsys) -> None:
    assert call(monkeypatch, "doctor", write(ROWS), "data=[none.jsonl]") == 2
    assert re.fullmatch(r"error: data .*none\.jsonl: .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_shows_everything_in_any_width(width: int) -> None:
    checks = [
        Check("rows", "warn", "a long measurement " * 12, "some advice " * 12),
        Check("lengths [bold]", "fail", "x" * 200),
    ]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(checks))
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    assert text.count("measurement") == text.count("advice") == 12
    assert text.count("x") == 200
    assert "[bold]" in text
    assert "1 failed, 1 to look at" in text


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (["ok", "ok"], "the run can start"),
        (["ok", "warn"], "nothing failed, 1 to look at"),
        (["fail", "warn", "warn"], "1 failed, 2 to look at"),
    ],
)
def test_the_verdict_counts(statuses, said) -> None:
    assert said in verdict([Check("x", status, "") for status in statuses]).plain


def test_the_demo_fails_nothing() -> None:
    checks = examined(DEMO)
    assert [check for check in checks.values() if check.status == "fail"] == []
    assert "200 of 200 sampled rows usable" in checks["rows"].measured
