"""DeepSpeed presets and a user's own JSON file."""

import json
from pathlib import Path

import pytest

from cluster.deepspeed.presets import FOLDER, read_deepspeed_json
from nlirg.errors import InputError

PRESETS = sorted(path.stem for path in FOLDER.glob("*.json"))


def refusal(name: object) -> str:
    with pytest.raises(InputError) as caught:
        read_deepspeed_json(str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_stage_and_the_offloading_that_its_name_says(name: str) -> None:
    zero = read_deepspeed_json(name)["zero_optimization"]
    stage, _, offload = name.removeprefix("zero").partition("_")
    assert zero["stage"] == int(stage)
    devices = {zero[key]["device"] for key in ("offload_optimizer", "offload_param") if key in zero}
    assert devices == ({offload.removesuffix("_offload")} if offload else set())


def test_every_preset_is_in_the_readme() -> None:
    text = (FOLDER / "README.md").read_text()
    assert len(PRESETS) == 7
    assert all(f"| `{name}` |" in text for name in PRESETS)


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    content = {"zero_optimization": {"stage": 2}}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    assert read_deepspeed_json(str(tmp_path / "mine.json")) == content


def test_a_name_that_is_nothing_lists_the_presets() -> None:
    message = refusal("zero4")
    assert "zero4 is neither" in message
    assert ", ".join(PRESETS) in message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{\n"zero_optimization": {"stage": 2},\n}', "line 2|line 3"),
        ("[1]", "must be a JSON object"),
        ('{"fp16": {}, "bf16": {}, "fp16": {}}', "key fp16 is there twice"),
        ("", "line 1"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "mine.json").write_text(text)
    message = refusal(tmp_path / "mine.json")
    assert "mine.json" in message
    assert any(part in message for part in complaint.split("|"))


def test_a_directory_or_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    assert "neither" in refusal(tmp_path)
    assert "neither" in refusal(tmp_path / "binary.json")
