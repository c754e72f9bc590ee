"""The comparison with the base model: gates and verdicts."""
