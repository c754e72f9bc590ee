"""What the keys of a row may be called, and what stands under them."""
