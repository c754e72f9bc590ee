"""The file formats of the evaluation: cases, samples, report."""
