"""Attacks on every theorem: exhaustive truth, hostile witnesses, mutants of the kernel."""
