"""Where the undocked program is."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path


class UndockedError(Exception):
    """undocked could not do it: not the function failed, but the run. `exit_code` is the program's (docs/cli.md), or None if it did not start."""

    def __init__(self, message: str, exit_code: int | None = None):
        super().__init__(message)
        self.exit_code = exit_code


def program() -> str:
    """The program: UNDOCKED_BIN, else the one that was installed with this package, else `undocked` in PATH."""
    named = os.environ.get("UNDOCKED_BIN")
    if named:
        return named
    installed = Path(sysconfig.get_path("scripts")) / "undocked"
    if installed.exists():
        return str(installed)
    found = shutil.which("undocked")
    if found is None:
        raise UndockedError("the program `undocked` is not there: install the wheel that carries it, or name it with UNDOCKED_BIN")
    return found
