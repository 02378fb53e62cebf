"""``rlvr``: the entry of the command; where its extra is not installed it says so."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from rlvrlib.command.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "rlvrlib":
            raise
        sys.exit(f"error: the command rlvr needs {error.name}: pip install 'rlvrlib[practice]'")
    app()


if __name__ == "__main__":
    main()
