"""The stages on Ray, the recipe and the command line."""
