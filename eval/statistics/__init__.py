"""Paired samples to estimates, intervals and tests."""
