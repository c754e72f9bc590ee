"""A scored corpus as one HTML page: what is wrong with it, and where."""
