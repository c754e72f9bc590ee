"""Prompts, engines that answer them, and the answers on disk."""
