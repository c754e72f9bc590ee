"""A language model that compares answers."""
