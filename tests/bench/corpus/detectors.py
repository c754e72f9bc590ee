"""Do scores find bad rows? Errors are put into clean rows, and every score ranks the rows.

    python -m tests.bench.corpus.detectors [--alpaca CORPUS.json] [--out FULL.json]

Every row is scored once clean and once with each error; corpora at any rate of errors are put
together from that. The rows by which the column `anomaly` was chosen are not those it is judged by.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
from scipy import stats

from nlirg.chat.encoder import ChatEncoder
from nlirg.config.corpus import EncodeConfig
from nlirg.corpus.records import parse_row
from nlirg.corpus.rows import encoded_row
from nlirg.models.loading import load_tokenizer
from nlirg.scoring.scorer import Scorer, without_context
from nlirg.scoring.scores import TokenScores, instruction_difficulty, sample_scores
from tests.bench.corpus.injections import INJECTIONS, Row, World, alpaca, skills, tickets
from tests.bench.corpus.ranking import (
    BASELINES,
    DIRECTIONS,
    MIXED,
    RATES,
    Cell,
    Cells,
    Pool,
    evaluate,
    mean_precision,
    per_row,
)
from tests.bench.measure import Comparison

MODEL = "pipelines/demo/base_model"
BATCH_TOKENS = 4096
ROWS, ALPACA_ROWS = 600, 400  # of a world that are scored
CHOOSING, JUDGING = 1, 2  # seeds of the worlds
SHOWN_RATE = 0.05
CHOSEN = "+anomaly"
RATED = (CHOSEN, "+mean_loss", "+surprise", "+divergence", *BASELINES)


class TokenScorer(Protocol):
    """What scores token ids [T] and labels [T]; `nlirg.scoring.scorer.Scorer` is one."""

    def score(self, samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[TokenScores]:
        """Score every trained token of every sample."""


def candidates(tokens: TokenScores) -> dict[str, float]:
    """Detectors that are no columns of a scored corpus, of a sample's n trained tokens.

    Returns:
        surprise: mean of L - H, which is 0 on average where the model is calibrated;
        surprise_z: the sum of L - H over its standard deviation there; tail_surprise: mean of the
        greatest fifth of L - H; peak_surprise: greatest mean of L - H over 3 tokens; end_loss:
        loss of the last token, the answer's end.
    """
    excess = tokens.loss.astype(float) - tokens.entropy
    spread = np.sqrt((tokens.log_p_std.astype(float) ** 2).sum())
    tail = np.sort(excess)[-max(1, len(excess) // 5) :]
    near = np.convolve(excess, np.ones(3) / 3, mode="valid") if len(excess) > 2 else excess
    return {
        "surprise": float(excess.mean()),
        "surprise_z": float(excess.sum() / max(spread, 1e-3)),
        "tail_surprise": float(tail.mean()),
        "peak_surprise": float(near.max()),
        "end_loss": float(tokens.loss[-1]),
    }


def score_pool(world: World, scorer: TokenScorer, tokenizer: Any) -> Pool:
    """Score every row clean and with each error that it can carry; equal texts once."""
    rng = Random(0)
    texts = [
        [row, *(row._replace(answer=make(rng, row, world)) for make in INJECTIONS.values())]
        for row in world.rows
    ]
    different = list(dict.fromkeys(row for versions in texts for row in versions))
    scored = _scored(different, scorer, tokenizer)
    nothing = dict.fromkeys(DIRECTIONS, np.nan)
    versions = [[scored[row], *(scored[v] if v != row else nothing for v in bad)]
                for row, *bad in texts]  # fmt: skip
    columns = {
        name: np.array([[version[name] for version in row] for row in versions])
        for name in DIRECTIONS
    }
    return Pool(np.array([row.task_type for row in world.rows]), columns)


def _scored(
    rows: Sequence[Row], scorer: TokenScorer, tokenizer: Any
) -> dict[Row, dict[str, float]]:
    """The columns of every row."""
    encoded = [_encoded(row, tokenizer) for row in rows]
    alone = scorer.score([without_context(*sample) for sample in encoded])
    found = {}
    for row, tokens, without in zip(rows, scorer.score(encoded), alone, strict=True):
        columns = sample_scores(tokens) | candidates(tokens)
        columns["ifd"] = instruction_difficulty(tokens.loss, without.loss)
        columns["length"] = len(tokens.loss)
        found[row] = {name: float(columns[name]) for name in DIRECTIONS}
    return found


def _encoded(row: Row, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    record = parse_row({"prompt": row.prompt, "completion": row.answer}, "bench", 1)
    encoded = encoded_row(ChatEncoder(tokenizer), record, EncodeConfig())
    return encoded["input_ids"], encoded["labels"]


def judge(corpus: Path | None) -> tuple[dict[str, Cells], dict[str, Cells]]:
    """Every detector on the worlds it is chosen by, and on others.

    Args:
        corpus: a JSON array of Alpaca rows; left out if there is none.
    """
    scorer, tokenizer = Scorer(MODEL, "fp32", BATCH_TOKENS), load_tokenizer(MODEL)
    chosen = [make(CHOOSING, ROWS) for make in (skills, tickets)]
    judged = [make(JUDGING, ROWS) for make in (skills, tickets)]
    if corpus is None:
        print("No corpus given by --alpaca: detectors are judged on the demo world alone.")
    else:
        judged.append(alpaca(corpus, JUDGING, ALPACA_ROWS))
    first, second = (
        {world.name: evaluate(score_pool(world, scorer, tokenizer)) for world in worlds}
        for worlds in (chosen, judged)
    )
    return first, second


def detectors_of(cells: Cells) -> list[str]:
    """Names of the detectors."""
    return list(dict.fromkeys(name for _, _, name in cells))


def tables(choosing: Mapping[str, Cells], judged: Mapping[str, Cells]) -> str:
    """Everything in Markdown."""
    parts = ["## Choice", "", *_choice(choosing), "", "## Rates", "", *_rates(judged)]
    for world, cells in judged.items():
        for title, figures in (("AUROC", _auroc), ("average precision", _ap)):
            parts += ["", f"## {world}: {title} at {SHOWN_RATE:.0%} bad rows", ""]
            parts += _figures(cells, figures)
    return "\n".join(parts) + "\n"


def _auroc(cell: Cell) -> list[float]:
    return cell.auroc


def _ap(cell: Cell) -> list[float]:
    return cell.ap


def _choice(choosing: Mapping[str, Cells]) -> Iterator[str]:
    """Mean average precision on the worlds to choose by, the best first."""
    yield from _header("detector", *choosing, "mean")
    means = {
        name: [mean_precision(cells, name, RATES) for cells in choosing.values()]
        for name in detectors_of(next(iter(choosing.values())))
    }
    for name, values in sorted(means.items(), key=lambda item: -np.mean(item[1])):
        note = "" if per_row(name) or name in BASELINES else " (needs the whole corpus)"
        cells = (f"{value:.3f}" for value in (*values, np.mean(values)))
        yield _line(_named(name) + note, *cells)


def _rates(judged: Mapping[str, Cells]) -> Iterator[str]:
    """Mean average precision of some detectors by the rate of errors."""
    yield from _header("rows", "detector", *(f"{rate:.0%}" for rate in RATES))
    for world, cells in judged.items():
        for name in RATED:
            values = (f"{mean_precision(cells, name, [rate]):.2f}" for rate in RATES)
            yield _line(world, _named(name), *values)


def _figures(cells: Cells, figures: Callable[[Cell], list[float]]) -> Iterator[str]:
    """One figure of every detector for every kind of error."""
    kinds = (*INJECTIONS, MIXED)
    yield from _header("detector", *kinds)
    for name in detectors_of(cells):
        found = (interval(figures(cells[kind, SHOWN_RATE, name])) for kind in kinds)
        yield _line(_named(name), *found)


def interval(values: Sequence[float]) -> str:
    """Mean and half its 95 % interval by Student's t."""
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{np.mean(values):.2f} ± {half:.2f}"


def _named(name: str) -> str:
    return f"**{name}**" if name == CHOSEN else name


def _header(*names: str) -> tuple[str, str]:
    return _line(*names), _line(*("---" for _ in names))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def compare_detectors(corpus: Path | None) -> list[Comparison]:
    """Print the tables; returns what `anomaly` is worth beside the best of the baselines."""
    choosing, judged = judge(corpus)
    print(tables(choosing, judged))
    return [
        _compared(world, kind, cells)
        for world, cells in judged.items()
        for kind in (*INJECTIONS, MIXED)
    ]


def _compared(world: str, kind: str, cells: Cells) -> Comparison:
    baselines = {name: cells[kind, SHOWN_RATE, name].ap for name in BASELINES}
    best = max(baselines, key=lambda name: float(np.mean(baselines[name])))
    pairs = zip(cells[kind, SHOWN_RATE, CHOSEN].ap, baselines[best], strict=True)
    return Comparison.of(
        f"average precision of `anomaly` / of the best baseline, {SHOWN_RATE:.0%} bad rows",
        f"{world}, {kind}",
        [ours / theirs for ours, theirs in pairs],
        note=f"best baseline: {best}",
    )


def as_json(judged: Mapping[str, Cells]) -> list[dict[str, Any]]:
    """Every figure, one entry per world, kind, rate and detector."""
    return [
        {"world": world, "kind": kind, "rate": rate, "detector": name, **cell._asdict()}
        for world, cells in judged.items()
        for (kind, rate, name), cell in cells.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpaca", type=Path, help="JSON array of Alpaca rows")
    parser.add_argument("--out", type=Path, help="JSON file for every figure")
    options = parser.parse_args()
    choosing, judged = judge(options.alpaca)
    print(tables(choosing, judged))
    if options.out is not None:
        found = {"choosing": as_json(choosing), "judged": as_json(judged)}
        options.out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
