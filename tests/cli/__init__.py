"""The command line. `output.py` is tested by test_indexes.py and test_questions.py, whose commands print with it."""
