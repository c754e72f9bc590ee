"""Train every arm."""
