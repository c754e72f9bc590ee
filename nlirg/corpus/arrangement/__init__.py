"""Which rows are trained, how often, in which order and packs."""
