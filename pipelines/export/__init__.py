"""A trained arm at a scale, written to be used elsewhere and evaluated as it was written."""
