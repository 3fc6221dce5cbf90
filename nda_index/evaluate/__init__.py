"""Do scores predict what a model does? The linear datamodeling score, what to compare with, and counterfactuals."""
