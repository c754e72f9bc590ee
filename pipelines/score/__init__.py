"""Score a corpus under the base model."""
