"""How far an answer can be trusted: the mass outside the shortlist, verdicts and their null."""
