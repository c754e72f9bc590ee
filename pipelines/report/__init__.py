"""Judge and draw what a run directory holds."""
