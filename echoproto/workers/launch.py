"""The command that starts a worker: this interpreter, with the parent's own module path.

``python -m`` and ``python -c`` put the current directory first on ``sys.path``. In a
directory that others can write to, a worker would then run their ``selectors.py``. The
options against that, ``-P`` and ``PYTHONSAFEPATH``, exist from Python 3.11 on only. So
the command imports nothing but ``sys``, which is built in, until ``sys.path`` is the
parent's. A worker thus runs the same installed code as its parent.
"""

from __future__ import annotations

import os
import sys

from echoproto.workers.settings import WorkerSettings

_START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from echoproto.workers.worker import run; sys.exit(run(sys.argv[1]))"
)


def worker_command(settings: WorkerSettings) -> list[str]:
    """Return the command line of a worker.

    :param settings: what the parent tells it.
    """
    # An empty entry is the current directory at the time of each import. The parent has
    # one if it was started as ``python -c``; relative ones come from PYTHONPATH.
    path = [os.path.abspath(entry) for entry in sys.path]
    return [sys.executable, "-c", _START, settings.as_json(), *path]
