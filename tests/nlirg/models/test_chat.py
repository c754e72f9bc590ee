"""The tokens that end an answer, from a model's folder."""

import json
import shutil
from pathlib import Path

import pytest

from nlirg.config.corpus import EncodeConfig
from nlirg.errors import InputError
from nlirg.models.chat import End, load_chat, stop_ids

TURNS = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
# The marker of the next speaker ends a turn.
SPEAKERS = (
    "{% for m in messages %}{{ '<|im_start|>' if m.role == 'user' else '<|endoftext|>' }}"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|endoftext|>{% endif %}"
)


@pytest.fixture
def model(tiny_model_dir, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def test_generation_stops_wherever_the_model_or_its_template_ends_a_turn(model) -> None:
    config = EncodeConfig()
    tokenizer = load_chat(str(model), config).tokenizer
    start, end = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>"))
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [start]}))
    chat = load_chat(str(model), config)
    assert stop_ids(chat) == tuple(sorted({start, end}))
    assert End.of(chat, config).stops == {start, end}
    assert chat.encode(TURNS).samples[0].input_ids[-1] == end
    speakers = load_chat(str(model), config, SPEAKERS)
    assert speakers.encode(TURNS).samples[0].input_ids[-1] == start


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_generation_settings_are_named(model, content) -> None:
    (model / "generation_config.json").write_text(content)
    with pytest.raises(InputError, match=r"generation_config\.json: is no JSON object"):
        load_chat(str(model), EncodeConfig())


def test_an_option_that_the_template_does_not_read_is_refused(model) -> None:
    template = "{% if enable_thinking %}{% endif %}" + SPEAKERS
    load_chat(str(model), EncodeConfig(template_options={"enable_thinking": True}), template)
    wrong = EncodeConfig(template_options={"enable_thinkin": True})
    with pytest.raises(InputError, match=r"no 'enable_thinkin'; did you mean enable_thinking\?"):
        load_chat(str(model), wrong, template)
