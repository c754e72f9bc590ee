"""The harness's own readers are not installed; these tests read as their sources do."""

import hashlib
import json
import re

import pytest

from eval.generation.harness_format import HARNESS_KEYS, harness_results, sample_row
from eval.generation.samples import read_samples, rows_text, samples_text
from eval.schema.sample import Sample
from nlirg.errors import InputError
from tests.eval.made_samples import sample, suite_of

RIGHT = [1, 1, 1, 0]
HASHES = {"domain": "d" * 64, "ood": "0" * 64}


def made(right=RIGHT):
    suites = {name: suite_of(name, right) for name in HASHES}
    return harness_results("nlirg", suites, HASHES, {"max_new_tokens": 8})


def test_what_is_written_is_read_back_the_same(tmp_path):
    samples = [
        sample("a", False, reference="四\u2028天", answer='"\n\u2029', format_ok=True, tokens=3),
        sample("b", finish_reason="error", error="too long", task_type="x/zh"),
    ]
    (tmp_path / "s.jsonl").write_text(rows_text(samples))
    assert read_samples(tmp_path / "s.jsonl") == samples
    (tmp_path / "s.jsonl").write_text(samples_text(samples))
    assert read_samples(tmp_path / "s.jsonl") == samples


@pytest.mark.parametrize("line", ["[]", "{", '{"case_id": "a"}', "null"])
def test_lines_that_are_no_samples_are_named(tmp_path, line):
    (tmp_path / "s.jsonl").write_text(rows_text([sample("a")]) + line + "\n")
    with pytest.raises(InputError, match=r"s\.jsonl:2: not a sample .* evaluate again"):
        read_samples(tmp_path / "s.jsonl")


def test_unknown_keys_are_still_refused(tmp_path):
    row = sample_row(sample("a"), 0) | {"telepathy": 1}
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="not a sample"):
        read_samples(tmp_path / "s.jsonl")


def test_a_row_has_every_key_of_the_harness_beside_ours():
    row = sample_row(sample("a", reference="yes"), 7)
    assert set(row) == set(Sample.model_fields) | set(HARNESS_KEYS)
    assert (row["doc_id"], row["target"], row["filter"]) == (7, "yes", "none")
    assert row["arguments"]["gen_args_0"]["arg_0"] == "prompt a"
    assert row["resps"][0][0] == row["filtered_resps"][0] == "yes"
    assert all(isinstance(row[name], float) for name in row["metrics"])
    assert row["prompt_hash"] == hashlib.sha256(b"prompt a").hexdigest()
    assert row["target_hash"] == hashlib.sha256(b"yes").hexdigest()
    document = json.dumps(row["doc"], indent=2, ensure_ascii=False)
    assert row["doc_hash"] == hashlib.sha256(document.encode()).hexdigest()


def test_results_have_the_metrics_of_every_task():
    found = made()["results"]["ood"]
    assert (found["acc,none"], found["sample_len"]) == (0.75, 4)
    assert found["acc_stderr,none"] == pytest.approx((0.25 * 0.75 / 3) ** 0.5)
    one = made([1])["results"]["ood"]
    assert (one["acc,none"], one["acc_stderr,none"]) == (1, "N/A")


def test_a_table_can_be_made_as_the_harness_makes_it():
    """Every number that is no standard error has one, a version, and a direction."""
    found = json.loads(json.dumps(made(), allow_nan=False))
    rows = []
    for task, values in found["results"].items():
        assert task in found["group_subtasks"]
        for key, value in values.items():
            metric, _, name = key.partition(",")
            if name and not metric.endswith("_stderr"):
                error = values[f"{metric}_stderr,{name}"]
                better = found["higher_is_better"][task][metric]
                rows.append(
                    (task, found["versions"][task], found["n-shot"][task], value, error, better)
                )
    assert [row[:4] for row in rows][:2] == [("domain", "d" * 12, 0, 0.75)] * 2
    assert len(rows) == 4


def test_samples_and_configs_fit_as_the_upload_to_zeno_wants_them():
    found = made()
    rows = [sample_row(s, i) for i, s in enumerate(suite_of("ood", RIGHT))]
    config = found["configs"]["ood"]
    assert config["output_type"] == "generate_until"
    assert all(metric["metric"] in row for metric in config["metric_list"] for row in rows)
    assert re.sub(r"\W", "", json.dumps(found["config"]["model_args"]))
    assert [row["doc_id"] for row in rows] == [0, 1, 2, 3]


def test_the_hash_of_a_task_is_that_of_its_questions_and_not_of_its_answers():
    assert made()["task_hashes"] == made([0, 0, 0, 0])["task_hashes"]
    other = {"ood": [s.model_copy(update={"prompt": "x"}) for s in suite_of("ood", RIGHT)]}
    assert (
        harness_results("nlirg", other, HASHES, {})["task_hashes"]["ood"]
        != (made()["task_hashes"]["ood"])
    )
