"""Metrics on disk and in trackers, alarms, FLOPs, the weight heatmap."""
