"""The embedded demo: a small synthetic world, its base model, its corpus and its cases."""
