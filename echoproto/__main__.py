"""``python -m echoproto`` and the console script ``echoproto``: the probe's command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Hypothesis keeps files for the next run. They belong in the user's cache, not in the current
# directory. Hypothesis reads this variable when it is imported.
_HYPOTHESIS = "HYPOTHESIS_STORAGE_DIRECTORY"
# Other packages register strategies for their types when Hypothesis is imported, and are imported
# for that: trio's plugin imports pytest. The probe draws none of their types.
_NO_PLUGINS = "HYPOTHESIS_NO_PLUGINS"
_EXTRA = ("click", "h11", "hypothesis", "rich", "socksio", "wsproto")


def main() -> None:
    """Run the command line; if the extra is not installed, name it and exit with code 2."""
    os.environ.setdefault(_HYPOTHESIS, str(Path(_cache(), "echoproto", "hypothesis")))
    os.environ.setdefault(_NO_PLUGINS, "1")
    try:
        from echoproto.probe.cli.main import main as probe_main

        code = probe_main()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        print(
            f"echoproto: {error.name} is missing: pip install 'echoproto[probe]'", file=sys.stderr
        )
        sys.exit(2)
    sys.exit(code)


def _cache() -> str:
    """Return this user's cache directory."""
    home = os.path.expanduser("~")
    if home == "~":
        # A user without a name, as in a container, may have no home; then nothing is kept.
        home = os.sep
    return os.environ.get("XDG_CACHE_HOME") or str(Path(home, ".cache"))


if __name__ == "__main__":
    main()
