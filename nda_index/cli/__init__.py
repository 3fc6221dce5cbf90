"""The command line."""

from nda_index.cli.app import main

__all__ = ["main"]
