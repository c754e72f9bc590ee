"""Token weights: one settings class and one pure function per weighting, and the loss zones."""
