"""Checks of corpus, model and plan before anything is trained."""
