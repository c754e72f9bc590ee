"""Suites, metrics, statistics, verdicts and reports of the evaluation."""
