"""Pytest puts this folder on the path because of this file: tests share ``random_models``."""
