"""Answers: what an index says of a picture, and the forms in which it is written."""
