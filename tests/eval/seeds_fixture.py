"""A synthetic report of many variants: arms with several seeds each."""

from __future__ import annotations

from eval.schema.report import Estimate, Report
from tests.eval.report_fixture import make_curve, make_report


def make_seeds(arms: int = 3, seeds: int = 3, samples: int = 60) -> Report:
    """The same report for several arms with several seeds each, all much like `nlirg`."""
    report = make_report(samples)
    names = {f"arm{a}": [f"arm{a}-seed{s}" for s in range(seeds)] for a in range(arms)}
    tuned = [name for members in names.values() for name in members]

    def spread_out(values: dict, shift: float = 0.01) -> dict:  # type: ignore[type-arg]
        """The values of `nlirg` for every new variant, moved a little, and those of the others."""
        kept = {name: found for name, found in values.items() if name in ("base", "human")}
        if "nlirg" not in values:
            return kept
        like = values["nlirg"]
        if not isinstance(like, Estimate):
            return {**kept, **dict.fromkeys(tuned, like)}
        return kept | {
            name: Estimate(
                value=like.value - shift * i,
                low=like.low - shift * i,
                high=like.high - shift * i,
                n=like.n,
            )
            for i, name in enumerate(tuned)
        }

    def rows(old: list) -> list:  # type: ignore[type-arg]
        return [row.model_copy(update={"values": spread_out(row.values)}) for row in old]

    metrics = [
        metric.model_copy(
            update={"values": spread_out(metric.values), "against": spread_out(metric.against)}
        )
        for metric in report.metrics
    ]
    gates = [gate for gate in report.gates if gate.variant == "nlirg"]
    return report.model_copy(
        update={
            "variants": ["base", *tuned],
            "seeds": names if seeds > 1 else {},
            "metrics": metrics,
            "by_task": rows(report.by_task),
            "by_perturbation": rows(report.by_perturbation),
            "gates": [g.model_copy(update={"variant": v}) for v in tuned for g in gates],
            "verdicts": dict.fromkeys(tuned, report.verdicts["nlirg"]),
            "openings": [
                row.model_copy(update={"shares": spread_out(row.shares)}) for row in report.openings
            ],
            "phrases": [
                row.model_copy(update={"shares": spread_out(row.shares)}) for row in report.phrases
            ],
            "samples": [
                sample.model_copy(update={"answers": spread_out(sample.answers)})
                for sample in report.samples
            ],
            "flips": [],
            "scales": {},
            "between": [],
            "flip_summaries": [],
            "training": {name: make_curve(i, 0.3 + 0.02 * i) for i, name in enumerate(tuned)},
        }
    )
