"""Prints one of the README's two commands, as it stands there, for CI to run.

python scripts/readme_command.py example|test
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def command(name: str) -> str:
    """The command after the comment `name`. Raises SystemExit if there is none."""
    found = re.search(rf"<!-- {re.escape(name)} -->\s*```sh\n(.*?)```", README.read_text("utf-8"), re.S)
    if not found:
        sys.exit(f"the README has no command {name!r}")
    return found[1]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(command(sys.argv[1]), end="")
