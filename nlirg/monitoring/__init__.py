"""Metrics on disk and in trackers, alarms, FLOPs, the heat map of weights."""
