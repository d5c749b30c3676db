"""``python -m echoproto`` and the console script ``echoproto``: the probe's command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What Hypothesis keeps for the next run belongs in the user's cache, not wherever the command
# was typed. It reads this when it is imported.
_HYPOTHESIS = "HYPOTHESIS_STORAGE_DIRECTORY"


def main() -> None:
    """Run the command line; say which extra is missing if it is."""
    os.environ.setdefault(_HYPOTHESIS, str(Path(_cache(), "echoproto", "hypothesis")))
    try:
        from echoproto.probe.cli.main import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("click", "hypothesis", "rich"):
            raise
        sys.exit(f"echoproto: {error.name} is missing: pip install 'echoproto[probe]'")
    sys.exit(run())


def _cache() -> str:
    """Return where this user's programs keep what they can do without."""
    home = os.path.expanduser("~")
    if home == "~":
        # A user without a name, as in a container, may have no home; nothing is kept then.
        home = os.sep
    return os.environ.get("XDG_CACHE_HOME") or str(Path(home, ".cache"))


if __name__ == "__main__":
    main()
