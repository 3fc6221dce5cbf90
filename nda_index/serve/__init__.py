"""The HTTP service: answers questions from an index, shows its page, and counts. Needs the extra `serve`."""
