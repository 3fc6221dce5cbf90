"""The command line: nda-index and its commands."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from nda_index.errors import INTERRUPTED

_SHOW_CURSOR = b"\x1b[?25h\n"  # which progress bars hide

__all__ = ["main"]


def main() -> None:
    """Run the command line: what the script `nda-index` calls."""
    signal.signal(signal.SIGINT, _end)
    from nda_index.cli.app import main as run

    run()


def _end(number: int, frame: FrameType | None) -> None:
    """End the process with one line, wherever it is, also while it imports: what is on disk is whole at any moment."""
    if "ray" in sys.modules:  # which has processes of its own to end
        raise KeyboardInterrupt
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
