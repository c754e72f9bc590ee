"""`python -m pipelines`: the same as `nlirg`, from a working directory."""

from pipelines.cli import main

main()
