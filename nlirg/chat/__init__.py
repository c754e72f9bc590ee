"""Conversations as a chat template renders them: what is trained, and the tokens of it."""
