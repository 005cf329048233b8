"""Independence certificates: never wrong, not needlessly weak, sealed, and firm with bad input."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest

from compactproofs.kernel import (
    Independence,
    MalformedError,
    ModelError,
    NeuronStatus,
    OptionError,
    UserError,
    independence,
)
from compactproofs.kernel import _independence as module
from soundness import laws_of_independence as laws
from soundness.conftest import plain as plain
from transformers_for_tests import random_transformer

ROOM = Fraction(1, 10**9)


def subject() -> laws.Subject:
    return laws.subjects()[0]


def certificate(**options: object) -> Independence:
    one = subject()
    return independence(one.net, one.layer, one.decoder, one.bias, one.levels, one.codes, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_the_cases_of_the_law_have_every_kind_and_status(plain: ModuleType) -> None:
    found = [one.asked(plain) for one in laws.subjects()]
    assert (np.array([one.tally.sum(axis=1) for one in found]).sum(axis=0) > 20).all()
    seen = np.concatenate([one.status for one in found])
    assert all((seen == status).sum() >= 3 for status in NeuronStatus)
    truths = [truth for n in range(len(found)) for code in laws.truth_of(n) for truth in code]
    assert sum(truth.interaction > 0 for truth in truths) > 100


def test_what_is_true_by_a_margin_is_proved() -> None:
    for number, one in enumerate(laws.subjects()[:2]):
        for code, truths in zip(one.codes, laws.truth_of(number), strict=True):
            found = independence(one.net, one.layer, one.decoder, one.bias, one.levels, code[None])
            for neuron, truth in enumerate(truths):
                beta, pulls = laws.pulls_of(one, code, neuron)
                low = beta + sum((min(p, Fraction()) for p in pulls.values()), Fraction())
                high = beta + sum((max(p, Fraction()) for p in pulls.values()), Fraction())
                if min(abs(low), abs(high)) > ROOM:
                    proved = int(np.argmax(found.tally[:, neuron]))
                    assert proved == (truth.holds.index(True) if True in truth.holds else 4)
                assert Fraction(float(found.interaction[neuron])) <= truth.interaction + ROOM
                largest = max(truth.differences.values(), default=Fraction())
                sizes = sorted((abs(p) for p in pulls.values()), reverse=True)
                limit = max(Fraction(), min([*sizes[1:2], high, -low])) if sizes[1:] else 0
                assert largest <= limit + ROOM
                assert Fraction(float(found.second_difference[neuron])) <= limit + ROOM


def test_the_bound_on_second_differences_is_reached_by_pairs_alone() -> None:
    # With two features there is one S: |D| = max(0, min(|p_i|, |p_j|, high, -low)) exactly.
    one = subject()
    for n, code in enumerate(one.codes):
        if (code >= 0).sum() == 2:
            found = independence(one.net, one.layer, one.decoder, one.bias, one.levels, code[None])
            for neuron, truth in enumerate(laws.truth_of(0)[n]):
                (difference,) = truth.differences.values()
                bound = Fraction(float(found.pair_bound[0, neuron]))
                assert difference <= bound <= difference + ROOM
                assert truth.interaction == difference


def test_if_every_neuron_is_separate_the_mlp_is_additive() -> None:
    rng = np.random.default_rng(4)
    net = random_transformer(rng, k=2, v=3, mlp=5, d=3, h=2)
    block = net.blocks[0]
    decoder, levels = 0.01 * rng.normal(size=(4, 3)), rng.uniform(0.5, 1, (4, 2))
    bias = 3 * rng.normal(size=3)
    codes = np.array([[0, 3, 5, 6], [1, 2, -1, 7]])
    found = independence(net, 0, decoder, bias, levels, codes)
    assert set(found.status.tolist()) == {NeuronStatus.STABLE_ON, NeuronStatus.STABLE_OFF}

    def mlp(u: np.ndarray) -> np.ndarray:
        return np.maximum(u @ block.W_in + block.b_in, 0) @ block.W_out

    for code in codes:
        parts = [levels[a // 2, a % 2] * decoder[a // 2] for a in code if a >= 0]
        alone = sum(mlp(bias + part) - mlp(bias) for part in parts)
        assert mlp(bias + sum(parts)) - mlp(bias) == pytest.approx(alone, abs=1e-12)
    assert not found.interaction.any() and not found.second_difference.any()
    assert found.additive_codes == found.n_codes == 2
    assert not found.pair_bound.any() and found.shared_neurons(0, 1) == ()


def test_one_feature_at_a_time_never_interacts() -> None:
    one = subject()
    codes = np.arange(12)[:, None]
    found = independence(one.net, one.layer, one.decoder, one.bias, one.levels, codes)
    assert (found.status <= NeuronStatus.SEPARATE).all() and (found.pairs.shape == (0, 2))
    assert not found.interaction.any()


def test_features_that_share_no_neuron_never_interact() -> None:
    one = subject()
    d = one.net.d_model
    net, decoder = _diagonal(d), np.eye(d)
    codes = np.arange(d)[None]
    found = independence(net, 0, decoder, np.zeros(d), np.full((d, 1), 3.0), codes)
    assert (found.status <= NeuronStatus.SEPARATE).all()
    assert len(found.pairs) == d * (d - 1) // 2 and not found.pair_bound.any()


def _diagonal(d: int):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    net = random_transformer(np.random.default_rng(1), k=2, v=3, mlp=d, d=d, h=2)
    block = replace(net.blocks[0], W_in=-np.eye(d), b_in=np.ones(d))
    return replace(net, blocks=(block,))


def test_counts_neurons_and_pairs_say_the_same() -> None:
    found = certificate()
    assert sum(found.counts().values()) == len(found.status) == 7
    assert found.counts() == {s.name.lower(): len(found.neurons(s)) for s in NeuronStatus}
    assert (found.tally.sum(axis=0) == found.n_codes).all()
    assert list(found.cells().values()) == found.tally.sum(axis=1).tolist()
    assert ((found.interacting_codes > 0) == (found.status == NeuronStatus.INTERACTING)).all()
    for (i, j), bounds in zip(found.pairs.tolist(), found.pair_bound, strict=True):
        assert i < j and found.shared_neurons(j, i) == tuple(np.flatnonzero(bounds > 0))
    assert (found.pair_bound.max(axis=0) <= found.second_difference).all()
    assert found.shared_neurons(0, 0) == () and found.flops > 0


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, steps = certificate(), []
    monkeypatch.setattr(module, "_NUMBERS", 60)
    parts = certificate(tick=lambda done, of: steps.append((done, of)))
    for name in ("tally", "status", "second_difference", "interaction", "pairs", "pair_bound"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
    assert len(steps) > 2 and steps[-1][0] == steps[-1][1]


def test_the_subject_is_named_by_its_digest() -> None:
    one, found = subject(), certificate()
    assert found.model_sha256 == one.net.sha256 and found.layer == one.layer
    again = independence(
        one.net, one.layer, one.decoder, one.bias, one.levels, one.codes.astype(np.int16)
    )
    assert again.subject_sha256 == found.subject_sha256
    others = [
        (one.decoder + 1e-9, one.bias, one.levels, one.codes),
        (one.decoder, one.bias + 1e-9, one.levels, one.codes),
        (one.decoder, one.bias, one.levels * 1.5, one.codes),
        (one.decoder, one.bias, one.levels, one.codes[:-1]),
    ]
    digests = {independence(one.net, one.layer, *other).subject_sha256 for other in others}
    assert len(digests | {found.subject_sha256}) == 5


def test_it_is_sealed_and_does_not_change() -> None:
    with pytest.raises(TypeError, match="comes from independence"):
        Independence(seal=object(), status=np.zeros(3))
    found = certificate()
    with pytest.raises(AttributeError, match="cannot be changed"):
        found.status = np.zeros(7)
    for array in (found.status, found.tally, found.pair_bound, found.interaction):
        with pytest.raises(ValueError, match="read-only|WRITEABLE"):
            array[...] = 0
            array.setflags(write=True)


def test_the_arrays_given_may_change_afterwards() -> None:
    one, codes = subject(), subject().codes.copy()
    found = independence(one.net, one.layer, one.decoder, one.bias, one.levels, codes)
    before = found.subject_sha256
    codes[:] = -1
    assert found.subject_sha256 == before == certificate().subject_sha256


def hostile() -> Iterator[tuple[str, dict[str, object]]]:
    one = subject()
    levels, decoder = one.levels.copy(), one.decoder.copy()
    levels[0, 0], decoder[1, 1] = np.nan, np.inf
    yield "levels holds NaN", {"levels": levels}
    yield "decoder holds NaN or inf", {"decoder": decoder}
    yield "decoder is float32", {"decoder": one.decoder.astype(np.float32)}
    yield "decoder is >f8", {"decoder": one.decoder.astype(">f8")}
    yield "decoder is complex", {"decoder": one.decoder + 0j}
    yield "of one H", {"decoder": one.decoder[:-1]}
    yield "of one H", {"decoder": one.decoder[:, :-1]}
    yield "of one H", {"bias": one.bias[:-1]}
    yield "bias is float64", {"bias": one.bias[None]}
    yield "levels is float64", {"levels": one.levels[:, :0]}
    yield "codes are float64", {"codes": one.codes.astype(float)}
    yield "codes are bool", {"codes": one.codes >= 0}
    yield "codes are int64", {"codes": one.codes[0]}
    yield "codes are int64", {"codes": one.codes[:0]}
    yield "codes are int64", {"codes": one.codes[:, :0]}
    yield "codes hold -2", {"codes": one.codes - 1}
    yield "codes hold .* 12", {"codes": np.array([[12]])}
    yield "codes hold", {"codes": np.array([[2**63 + 5]], dtype=np.uint64)}
    yield "code 1 has a feature twice", {"codes": np.array([[0, 2], [4, 5]])}
    yield "code 0 has a feature twice", {"codes": np.array([[3, 3]])}
    yield "layer 1", {"layer": 1}
    yield "layer -1", {"layer": -1}
    yield "layer True", {"layer": True}
    yield "layer 0.0", {"layer": 0.0}
    yield "left the range", {"decoder": one.decoder * 1e300, "levels": one.levels * 1e300}


@pytest.mark.parametrize("message, changed", list(hostile()))
def test_what_it_is_not_about_is_refused(
    message: str, changed: dict[str, object], plain: ModuleType
) -> None:
    one = subject()
    taken = {name: getattr(one, name) for name in ("layer", "decoder", "bias", "levels", "codes")}
    net = laws.transformer_for(plain, one.net)
    with pytest.raises(plain.UserError, match=message):
        plain.independence(net, **(taken | changed))


def test_a_layer_without_neurons_is_refused() -> None:
    net = random_transformer(np.random.default_rng(0), k=2, v=3, mlp=0, d=4, h=2)
    one = subject()
    with pytest.raises(ModelError, match="has no MLP"):
        independence(net, 0, one.decoder, one.bias, one.levels, one.codes)


def test_too_many_pairs_are_refused_unless_they_are_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_PAIRED", 20)
    with pytest.raises(OptionError, match="pairs=False"):
        certificate()
    found, whole = certificate(pairs=False), subject()
    assert found.pairs.shape == (0, 2) and found.pair_bound.shape == (0, 7)
    with pytest.raises(OptionError, match="pairs=False"):
        found.shared_neurons(0, 1)
    monkeypatch.undo()
    assert np.array_equal(found.status, certificate().status)
    assert issubclass(MalformedError, UserError) and len(whole.codes) == found.n_codes
