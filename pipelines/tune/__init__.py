"""Sweep training settings."""
