"""The command ``compactproofs``; no maths here, and no import of torch before it is needed."""

from ._main import main as main
from ._output import progress as progress
