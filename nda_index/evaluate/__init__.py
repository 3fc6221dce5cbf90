"""Measure whether scores predict what a model does: linear datamodeling score, baselines, counterfactuals."""
