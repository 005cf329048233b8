"""Unsound kernels, one small edit each: a suite that cannot tell them from the kernel is blind.

An edit replaces a snippet that occurs exactly once in its file. Left out, because no test can or
should catch them alone (each was tried or argued through):

* ``b_K`` dropped, or any shift of the scores common to a query (the sign of ``shift`` in
  ``integer_tables`` and ``verify_tables`` together): a softmax does not change.
* ``_counting``: bin width ``floor(W/B)``: the limit is computed from the width, so every width is
  sound; the unsound form, with the limit ``B``, is listed as a pair of edits.
* ``weight_low < 0`` accepted by ``_check_form``: looser, and still encloses.
* ``Ball.__matmul__`` without ``8 n rho``: where subnormals are kept (``check_arithmetic`` asks),
  ``_outward`` adds more than a product of fewer than 2^57 terms can lose. It matters to threads
  that flush to zero, which tests/kernel makes in a process of their own.
* ``reciprocal_sqrt`` with a bad guess: its exact check refuses it (the pair that also removes the
  check is listed).
* ``conclude`` without its cover check: it guards against defects elsewhere, which are listed.
* the mean position dropped from the keys of ``qk_factors``: it adds one number to a row of scores.
* ``margin.lower() >= 0`` in brute force on a transformer: an enclosure always has a radius.
* ``moves`` that keep useless targets, ``_trim`` that keeps dead states: the same words, more work.
"""

from .cells import CELLS
from .composition import COMPOSITION
from .counting import COUNTING
from .crosscoder_a import CROSSCODER_A
from .crosscoder_b import CROSSCODER_B
from .crosscoder_c import CROSSCODER_C
from .crosscoder_d import CROSSCODER_D
from .float32 import FLOAT32
from .form import Mutant as Mutant
from .foundations import FOUNDATIONS
from .gate_admission import GATE_ADMISSION
from .gate_classes import GATE_CLASSES
from .gate_regions import GATE_REGIONS
from .gate_statistics import GATE_STATISTICS
from .gate_structure import GATE_STRUCTURE
from .independence import INDEPENDENCE
from .networks import NETWORKS
from .shared_bounds import SHARED_BOUNDS
from .subcubic import SUBCUBIC

MUTANTS = (
    *COUNTING,
    *SHARED_BOUNDS,
    *SUBCUBIC,
    *FLOAT32,
    *COMPOSITION,
    *NETWORKS,
    *INDEPENDENCE,
    *CELLS,
    *CROSSCODER_A,
    *CROSSCODER_B,
    *CROSSCODER_C,
    *CROSSCODER_D,
    *GATE_ADMISSION,
    *GATE_CLASSES,
    *GATE_REGIONS,
    *GATE_STATISTICS,
    *GATE_STRUCTURE,
    *FOUNDATIONS,
)
