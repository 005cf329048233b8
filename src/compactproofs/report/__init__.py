"""Pictures of proofs: static SVG, no plotting library."""

from ._figure import Bar as Bar
from ._figure import proof_figure as proof_figure
