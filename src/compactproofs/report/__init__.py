"""Pictures of proofs and the HTML page that shows them.

The figures of the ladder need the extra 'report'; all others, and the page of a crosscoder, are
plain SVG.
"""

from ._bars import Loss as Loss
from ._bars import Waterfall as Waterfall
from ._bars import histogram as histogram
from ._bars import named_bars as named_bars
from ._bars import waterfall as waterfall
from ._crosscoder_page import CrosscoderView as CrosscoderView
from ._crosscoder_page import LayerView as LayerView
from ._crosscoder_page import add_crosscoder as add_crosscoder
from ._crosscoder_page import crosscoder_page as crosscoder_page
from ._curves import curves as curves
from ._figure import Bar as Bar
from ._figure import proof_figure as proof_figure
from ._gate_page import Example as Example
from ._gate_page import GateView as GateView
from ._gate_page import Rung as Rung
from ._gate_page import SiteUse as SiteUse
from ._gate_page import StructureUse as StructureUse
from ._gate_page import WarrantRow as WarrantRow
from ._gate_page import gate_page as gate_page
from ._heat_map import heat_map as heat_map
from ._interaction_graph import Edge as Edge
from ._interaction_graph import interaction_graph as interaction_graph
from ._neurons import dominant_share_figure as dominant_share_figure
from ._neurons import neuron_states as neuron_states
from ._page import Page as Page
from ._plots import dimension_figure as dimension_figure
from ._plots import faithfulness_figure as faithfulness_figure
from ._plots import frontier_figure as frontier_figure
from ._plots import interactive_frontier as interactive_frontier
