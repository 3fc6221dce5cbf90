"""Tests of benchmarks/pictures. They need neither Debian's packages nor OpenCV, but test_sift.py, which is skipped."""
