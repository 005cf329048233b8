"""Pictures of proofs and the HTML page that shows them.

``proof_figure`` and ``heat_map`` are plain SVG; the figures of the ladder need the extra 'report'.
"""

from ._figure import Bar as Bar
from ._figure import proof_figure as proof_figure
from ._heat_map import heat_map as heat_map
from ._page import Page as Page
from ._plots import dimension_figure as dimension_figure
from ._plots import faithfulness_figure as faithfulness_figure
from ._plots import frontier_figure as frontier_figure
from ._plots import interactive_frontier as interactive_frontier
