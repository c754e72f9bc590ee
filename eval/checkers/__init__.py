"""Judging one answer."""
