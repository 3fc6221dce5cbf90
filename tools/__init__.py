"""Tools for those who work on nda-index: set-up, checks, the demo."""
