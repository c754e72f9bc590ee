"""A tiny tokenizer and a tiny random model, for every test that needs some real ones."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import settings
from transformers import PreTrainedTokenizerFast

from tests.byte_tokenizer import byte_tokenizer
from tests.tiny_model import save_qwen3

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
# What else runs on the machine decides how long an example takes. CI has a profile of its own.
settings.register_profile("shared machine", settings(), deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("shared machine")

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ["user assistant system", "the answer is yes", "the question is no", "one two three four"]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost, so that it writes last
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Name the browser tests that a machine without a browser passed over."""
    yield
    skipped = [
        one for one in terminalreporter.stats.get("skipped", ()) if "browser" in one.keywords
    ]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} browser tests were skipped; to run them install a browser: "
            "apt-get install chromium fonts-noto-cjk",
            yellow=True,
        )


@pytest.fixture(scope="session")
def _process_group(tmp_path_factory) -> Iterator[None]:
    """One gloo rank for the whole session: DeepSpeed keeps the first group that it sees."""
    store = tmp_path_factory.mktemp("gloo") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def one_rank(_process_group) -> Iterator[None]:
    """What DeepSpeed needs of a process to train in it alone."""
    import deepspeed

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
            patch.setenv(name, value)
        # Built by a compiler at first use; gloo needs none.
        patch.setitem(deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm", False)
        yield


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (any text, some merges) with a ChatML template."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(WORDS * 2, 320, specials),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )


@pytest.fixture(scope="session")
def tiny_model_dir(tiny_tokenizer, tmp_path_factory) -> Path:
    """A random two-layer Qwen3 with `tiny_tokenizer`, saved as a user's model would be."""
    # Predictions far from uniform, so that mistakes show.
    path = tmp_path_factory.mktemp("tiny_model")
    return save_qwen3(path, tiny_tokenizer, head_dim=8, initializer_range=0.3)
