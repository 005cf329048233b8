"""The independent checker against the kernel, and against itself with one token changed."""
