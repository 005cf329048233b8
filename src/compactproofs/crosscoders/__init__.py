"""Crosscoders: one sparse code for the activations of several sites of a network.

A crosscoder is a sparse autoencoder on the stack of a model's activations, with one code shared by
all sites and one encoder and decoder block of each site. Nothing here imports torch, except
reading ``.pt`` files of other tools.
"""

from ._activations import default_sites as default_sites
from ._activations import inputs_of as inputs_of
from ._activations import require_own_crosscoder as require_own_crosscoder
from ._activations import residuals as residuals
from ._circuit_tracer import export_clt as export_clt
from ._circuit_tracer import import_clt as import_clt
from ._claim import CrosscoderClaim as CrosscoderClaim
from ._claim import SiteError as SiteError
from ._claim import claim_of as claim_of
from ._config import ARCHITECTURES as ARCHITECTURES
from ._config import CrosscoderConfig as CrosscoderConfig
from ._config import Site as Site
from ._config import site_of as site_of
from ._crosscoder import Crosscoder as Crosscoder
from ._encoded import EncodedDataset as EncodedDataset
from ._encoded import encode_dataset as encode_dataset
from ._encoded import encoded_from_codes as encoded_from_codes
from ._encoded_files import check_encoded_destination as check_encoded_destination
from ._encoded_files import load_encoded as load_encoded
from ._encoded_files import save_encoded as save_encoded
from ._encoded_task import atoms_of as atoms_of
from ._encoded_task import encode_task as encode_task
from ._encoded_task import prove_independence as prove_independence
from ._errors import CrosscoderError as CrosscoderError
from ._files import check_crosscoder_destination as check_crosscoder_destination
from ._files import load_crosscoder as load_crosscoder
from ._files import load_firing_frequency as load_firing_frequency
from ._files import save_crosscoder as save_crosscoder
from ._importers import import_ckkissane as import_ckkissane
from ._importers import import_crosscode as import_crosscode
from ._importers import import_dictionary_learning as import_dictionary_learning
from ._masks import causal_masks as causal_masks
from ._store import ActivationStore as ActivationStore
from ._store import ActivationWriter as ActivationWriter
from ._store import StoreSettings as StoreSettings
