"""Runs whose arm asks for a replay, and engines that answer in real tokens."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from cluster.plan import Pool
from cluster.rundir import RunDirectory
from eval.generation.actors import Chunk
from eval.generation.generate import Completion, Request
from pipelines.evaluate import generation
from pipelines.recipe import Recipe, validate
from pipelines.replay import stage
from tests.fake_engine import FakeFleet

PROMPTS = 24
CHUNK = 5


def words_of(request: Request) -> str:
    """An answer of words that tell the seed, none of them twice."""
    digest = hashlib.sha256(str(request.seed).encode()).hexdigest()
    return " ".join(digest[place : place + 5] for place in range(0, 40, 5))


class SpeakingFleet(FakeFleet):
    """A fake fleet whose answers have the tokens of their text, and end by themselves.

    Attributes:
        speak: what is said to a request.
        change: what becomes of the completion.
    """

    def __init__(self, tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.speak: Callable[[Request], str] = words_of
        self.change: Callable[[Request, Completion], Completion] = lambda request, done: done

    def run(self) -> Iterator[tuple[Chunk, Sequence[Completion]]]:
        for chunk in [chunk for group in self._groups for chunk in group.chunks]:
            if self.stop_after == 0:
                raise KeyboardInterrupt
            self.stop_after -= 1
            self.asked += [(chunk.variant, *request.key) for request in chunk.requests]
            yield chunk, [self._answer(request) for request in chunk.requests]

    def _answer(self, request: Request) -> Completion:
        text = self.speak(request)
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return self.change(request, Completion(text, (*ids, self.tokenizer.eos_token_id), "stop"))


@pytest.fixture
def fleet(monkeypatch, tiny_tokenizer) -> SpeakingFleet:
    fake = SpeakingFleet(tiny_tokenizer)
    monkeypatch.setattr(generation, "Fleet", fake)
    monkeypatch.setattr(generation, "connect", lambda config: None)
    monkeypatch.setattr(generation, "model_pool", lambda engines, gpus: Pool(1, 1, 0))
    monkeypatch.setattr(generation, "chunk_requests", lambda spec: CHUNK)
    monkeypatch.setattr(stage, "run_each", in_this_process)
    return fake


def in_this_process(recipe, name, variants, work, *arguments):
    """What `run_each` does, without a process."""
    for variant in variants:
        yield variant, work(variant, "cpu", *arguments)


def cut(request: Request, done: Completion) -> Completion:
    """An answer that the limit ended."""
    return replace(done, token_ids=done.token_ids[:-1], finish_reason="length")


@pytest.fixture
def make_replay(tiny_model_dir, tmp_path):
    """Make a recipe whose arm has a replay on a file of prompts, and its run."""

    def make(name: str = "r", storage: str = "runs", **changes) -> tuple[Recipe, RunDirectory]:
        path = tmp_path / "prompts.jsonl"
        if not path.exists():
            rows = [{"id": f"p{i:02d}", "prompt": f"one {i} two?"} for i in range(PROMPTS)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        raw = {
            "name": name,
            "storage": str(tmp_path / storage),
            "model": str(tiny_model_dir),
            "data": ["none.jsonl"],
            "replay": {"prompts": str(path), "max_new_tokens": 64},
            "train": {"replay": {"share": 0.2}},
            "score": {"precision": "fp32"},
            "evaluate": {"engine": "transformers", "ood": None},
        }
        for key, value in changes.items():
            raw[key] = {**raw[key], **value} if isinstance(raw.get(key), dict) else value
        recipe = validate(raw, "recipe")
        return recipe, RunDirectory(recipe.storage, recipe.name)

    return make
