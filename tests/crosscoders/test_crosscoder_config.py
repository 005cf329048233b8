from typing import Any

import pytest
from crosscoder_examples import MLP_SITES, SITES, D, H, as_users_call

from compactproofs.crosscoders import CrosscoderConfig, CrosscoderError, Site, site_of

L = len(SITES)


@pytest.mark.parametrize(
    ("name", "role", "layer"),
    [
        ("blocks.0.hook_resid_pre", "resid_pre", 0),
        ("blocks.3.ln1.hook_normalized", "ln1", 3),
        ("blocks.3.hook_resid_mid", "resid_mid", 3),
        ("blocks.12.ln2.hook_normalized", "ln2", 12),
        ("blocks.0.hook_mlp_out", "mlp_out", 0),
        ("blocks.0.hook_resid_post", "resid_post", 0),
    ],
)
def test_a_site_is_named_as_in_transformerlens(name: str, role: str, layer: int) -> None:
    assert site_of(name) == Site(name, role, layer)
    assert site_of(name, 2) == Site(name, role, layer, 2)


@pytest.mark.parametrize(
    "name", ["", "blocks.0.hook_attn_out", "blocks.01.hook_resid_pre", "hook_embed", "blocks.x.y"]
)
def test_other_names_are_no_site_by_themselves(name: str) -> None:
    with pytest.raises(CrosscoderError, match="is not blocks.N."):
        site_of(name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("", "ln1", 0), "site name '' must be"),
        (("model.layers.0", "attention", 0), "role 'attention' is not one of"),
        (("model.layers.0", "ln1", -1), "layer = -1 must be"),
        (("model.layers.0", "ln1", 0, True), "model_index = True must be"),
        (("blocks.0.hook_resid_mid", "ln1", 0), "is role 'resid_mid' of layer 0"),
        (("blocks.0.hook_resid_mid", "resid_mid", 1), "is role 'resid_mid' of layer 0"),
    ],
)
def test_a_site_that_contradicts_itself_is_refused(fields: Any, message: str) -> None:
    with pytest.raises(CrosscoderError, match=message):
        Site(*fields)


def _config(**changes: Any) -> CrosscoderConfig:
    fields: dict[str, Any] = {
        "architecture": "topk_crosscoder",
        "sites": SITES,
        "d_in": (D,) * L,
        "d_sae": H,
        "k": 3,
    }
    return CrosscoderConfig(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "topk"}, "architecture = 'topk' is not one of"),
        ({"k": H + 1}, f"k = {H + 1} is more than the {H} features"),
        ({"k": 0}, "k = 0 must be"),
        ({"k": 2.0}, "k = 2.0 must be"),
        ({"k": None}, "k is missing: topk_crosscoder needs it"),
        ({"d_sae": 0}, "d_sae = 0 must be"),
        ({"d_in": (D,)}, "d_in has 1 widths for 4 sites"),
        ({"d_in": (D, D, D, D + 1)}, "all sites must have one width"),
        ({"d_in": D}, "d_in = 5 must be a list"),
        ({"sites": ()}, "sites is empty"),
        (
            {"sites": SITES[:3] + SITES[:1]},
            "sites holds 'blocks.0.hook_resid_pre' of model 0 twice",
        ),
        ({"sites": ("blocks.0.hook_resid_pre",) * 4}, "use site_of"),
        ({"dtype": "float16"}, "dtype = 'float16' is not one of"),
        ({"positions": "first"}, "positions = 'first' is not one of"),
        ({"score": "max"}, "score = 'max' is not one of"),
        ({"mask": "causal"}, "mask = 'causal' is not one of"),
        ({"mask": "clt"}, "the mask 'clt' goes with the architecture 'clt'"),
        ({"output_sites": SITES}, "a clt needs them, and nothing else"),
        ({"architecture": "clt", "mask": "clt"}, "output_sites has 0 sites"),
        (
            {"architecture": "clt", "mask": "clt", "output_sites": MLP_SITES[:2]},
            "output_sites has 2 sites for 4",
        ),
        (
            {
                "architecture": "clt",
                "mask": "clt",
                "output_sites": MLP_SITES,
                "apply_b_dec_to_input": True,
            },
            "a clt does not read what it writes",
        ),
        ({"normalize_activations": "layer"}, "normalize_activations = 'layer'"),
        ({"folded": 1}, "folded = 1 must be True or False"),
        ({"model_sha256": "abc"}, "model_sha256 = 'abc' must be 64"),
        ({"metadata": {"seed": {1}}}, r"metadata field 'seed' is \{1\}, which JSON cannot"),
        ({"metadata": {"loss": float("nan")}}, "metadata field 'loss' is nan"),
        ({"metadata": [1]}, r"metadata = \[1\] must be a mapping"),
    ],
)
def test_settings_that_no_crosscoder_has_are_refused_by_name(changes: Any, message: str) -> None:
    with as_users_call(), pytest.raises(CrosscoderError, match=message) as caught:
        _config(**changes)
    assert "\n" not in str(caught.value)
