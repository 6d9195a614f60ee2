"""`python -m llmzip`."""

from llmzip.cli import main

main()
