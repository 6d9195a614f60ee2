"""The command line: parses, calls the library, reports. Each module is a command or a few that belong together.

Only what a command needs is imported, so that those that load no model answer at once.
"""

from __future__ import annotations

from llmzip.cli.group import main

__all__ = ["main"]
