"""The base model's answers on disk, shared by all runs of one storage.

`<storage>/.answers/<hash>/answers.jsonl`: the hash is of what decides every answer (weights,
engine, temperature, seed...), a line is one answer with the hash of the tokens that it answers.
Lines are only ever added, so a killed run, or another one, goes on with what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from cluster.rundir import fingerprint
from eval.generation.generate import Completion, Prompt, Request
from eval.generation.samples import append_lines, drop_torn_line, read_lines
from eval.schema.case import Strict
from nlirg.atomic_io import write_json
from pipelines.progress import say

FOLDER, FILE = ".answers", "answers.jsonl"


class KeptAnswer(Strict):
    """One line: an answer, and to what.

    Attributes:
        id: of the prompt.
        prompt_sha256: of its token ids.
        max_tokens: that the answer was allowed.
        finish_reason: `stop` if the model ended it.
        answer: its text, without thinking that special tokens set apart.
        reasoning: that thinking.
        token_ids: all that was generated, the end of the turn included.
    """

    id: str
    prompt_sha256: str
    max_tokens: int
    finish_reason: Literal["stop", "length"]
    answer: str
    reasoning: str
    token_ids: tuple[int, ...]


@dataclass
class KeptAnswers:
    """A file of answers, and what is in it."""

    path: Path
    _found: dict[tuple[str, str, int], Completion] = field(default_factory=dict)

    def read(self) -> None:
        """Read what is there; a last line that was not written to its end is cut off.

        Raises:
            InputError: if another line is damaged.
        """
        if not self.path.is_file():
            return
        drop_torn_line(self.path)
        parse = KeptAnswer.model_validate_json
        remedy = f"delete {self.path.parent} to have the answers made again"
        for line in read_lines(self.path, parse, "an answer", remedy):
            self._keep(line)

    def get(self, prompt: Prompt, request: Request) -> Completion | None:
        """Return the answer to a request, if it is there."""
        return self._found.get((prompt.case.id, prompt.sha256, request.max_tokens))

    def add(self, answered: Sequence[tuple[Prompt, Request, Completion]]) -> None:
        """Keep answers, on disk first."""
        lines = [_line(*one) for one in answered]
        append_lines(self.path, "".join(line.model_dump_json() + "\n" for line in lines))
        for line in lines:
            self._keep(line)

    def _keep(self, line: KeptAnswer) -> None:
        answer = Completion(
            line.answer, line.token_ids, line.finish_reason, reasoning=line.reasoning
        )
        self._found[line.id, line.prompt_sha256, line.max_tokens] = answer


@contextmanager
def kept_answers(storage: Path, decides: Mapping[str, Any]) -> Iterator[KeptAnswers]:
    """Open the answers that some settings give, for this process alone.

    Where another process has them open, this one says so and waits.

    Args:
        storage: of the run.
        decides: everything that decides an answer besides prompt and length; written beside them.

    Raises:
        InputError: if the file is damaged.
    """
    folder = storage / FOLDER / fingerprint(decides)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say("replay", f"another run is making these answers: waiting for it ({folder})")
        lock.acquire()
    try:
        write_json(folder / "settings.json", dict(decides))
        answers = KeptAnswers(folder / FILE)
        answers.read()
        yield answers
    finally:
        lock.release()


def _line(prompt: Prompt, request: Request, answer: Completion) -> KeptAnswer:
    assert answer.finish_reason != "error"  # engines raise
    return KeptAnswer(
        id=prompt.case.id,
        prompt_sha256=prompt.sha256,
        max_tokens=request.max_tokens,
        finish_reason=answer.finish_reason,
        answer=answer.text,
        reasoning=answer.reasoning,
        token_ids=answer.token_ids,
    )
