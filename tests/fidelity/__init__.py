"""Our scores against those of the published code, which is the truth for every backend."""
