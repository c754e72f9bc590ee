"""Look at a corpus sample, the model and the plan before anything runs."""
