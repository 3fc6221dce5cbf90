"""Copies of an index in an object store or another folder: pushed there, and pulled to the machines that serve it."""
