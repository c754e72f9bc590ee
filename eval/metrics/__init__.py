"""What is measured on answers and losses, each metric with its meaning."""
