"""Do scores predict what a model does?

Tested elsewhere: `evaluate.commands` in test_comparison.py.
"""
