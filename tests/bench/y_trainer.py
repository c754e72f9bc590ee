"""The real reference loop beside its written-out arithmetic, where a checkout is given.

Nothing of the reference is part of this project. The checkout is run as its users run it, by its
command line, in a process of its own with a corpus and a model written for it. Untested: it follows
the published description of the reference alone.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import tempfile
from pathlib import Path

from nlirg.forward.batching import EncodedCorpus
from tests.bench.measure import Comparison, Costs
from tests.bench.shapes import CorpusShape, ModelShape, word_tokenizer

SAMPLES = (4, 40)


def write_inputs(model: ModelShape, corpus: EncodedCorpus, folder: Path) -> None:
    """Write `model/` and `data.json`, one word per token, as instruction and output."""
    model.build().save_pretrained(folder / "model")
    word_tokenizer(model.vocabulary).save_pretrained(folder / "model")
    samples = []
    for row, trained in zip(corpus.rows, corpus.n_trained, strict=True):
        words = [f"w{token}" for token in row["input_ids"]]
        prompt, response = words[: -int(trained)], words[-int(trained) :]
        samples.append({"instruction": " ".join(prompt), "input": "", "output": " ".join(response)})
    (folder / "data.json").write_text(json.dumps(samples))


def compare_reference(
    checkout: Path, command: str, model: ModelShape, shape: CorpusShape, costs: Costs
) -> Comparison:
    """CPU of the reference's command over that of our full context, per trained token.

    It is run on few and on more samples; the difference is free of its start-up.

    Args:
        checkout: folder of the reference.
        command: run in it, with `{model}`, `{data}` and `{output}` filled in; batch size 1 and
            token_batch 10, one epoch.
        model: the model it trains.
        shape: of the samples it trains.
        costs: of the same samples, with a variant `full`.

    Raises:
        RuntimeError: if it fails.
    """
    few, more = (shape.build(samples, model.vocabulary) for samples in SAMPLES)
    seconds = [cpu_seconds(checkout, command, model, corpus) for corpus in (few, more)]
    tokens = int(more.n_trained.sum() - few.n_trained.sum())
    return Comparison.of(
        costs.title,
        "the reference itself / gradient_context full",
        [(seconds[1] - seconds[0]) / tokens / costs.median("full")],
        note="it drops the last token of each window, here counted as trained",
    )


def cpu_seconds(checkout: Path, command: str, model: ModelShape, corpus: EncodedCorpus) -> float:
    """User CPU time of the reference's command from start to end.

    Raises:
        RuntimeError: if it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(model, corpus, folder)
        filled = command.format(
            model=folder / "model", data=folder / "data.json", output=folder / "output"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        run = subprocess.run(
            shlex.split(filled),
            cwd=checkout,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        raise RuntimeError(f"{filled} failed:\n{run.stderr[-2000:]}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
