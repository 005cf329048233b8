"""The version of the kernel, which every certificate states."""

__version__ = "0.1.0"
