"""Token weights: what a weighting is, the weightings there are, and the loss zones."""
