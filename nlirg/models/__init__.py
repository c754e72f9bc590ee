"""Loading, adapting and writing models."""
