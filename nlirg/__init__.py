"""The algorithm and the trainer; no Ray, no vLLM."""
