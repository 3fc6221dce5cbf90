"""The HTTP service: questions to an index, its page, and its operation. Needs the extra `serve`."""
