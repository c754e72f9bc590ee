"""The one training loop: schedule, objective, engine, validation, checkpoints, step metrics."""
