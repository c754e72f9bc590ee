"""Turn selected rows into training rows."""
