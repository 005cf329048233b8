"""Search for witnesses: what makes a bound tight. Untrusted; the kernel believes none of it."""

from ._search import find_witness as find_witness
