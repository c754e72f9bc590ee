"""The questions: files, probe set, general text, perturbations."""
