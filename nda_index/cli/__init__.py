"""The command line: nda-index and its commands."""

from nda_index.cli.app import main

__all__ = ["main"]
