"""The parts of the loss that make a crosscoder provable: interaction penalty and certificate loss.

Notation as in ``_interaction``; n samples of this process, H features, L sites.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float

from .._errors import CrosscoderError
from ._interaction import (
    Decoded,
    Readout,
    Sparse,
    certificate_loss,
    certified_margins,
    contributions,
    interaction_penalty,
    sparse,
)
from ._ranks import Ranks
from ._settings import CertificateLoss, CrosscoderSettings, Penalty
from ._sources import ActivationSource, Rows
from ._weights import Normalisation, Weights


class BatchTerms(NamedTuple):
    """Of one batch: what is added to the loss, its parts unweighted, and who is badly served."""

    weighted: Float[torch.Tensor, ""]
    penalty: Float[torch.Tensor, ""]
    certificate: Float[torch.Tensor, ""]
    badness: Float[torch.Tensor, " n"]
    """The weighted certificate loss of each sample, 0 where it has none."""


@final
@dataclass(frozen=True, eq=False)
class ProofTerms:
    """Which terms there are, and the MLP and the site that they are about."""

    penalty: Penalty | None
    certificate: CertificateLoss | None
    readout: Readout | None
    site: int
    """Number of the site that the MLP reads."""
    ranks: Ranks

    def of_batch(
        self,
        weights: Weights,
        norm: Normalisation,
        codes: Float[torch.Tensor, "n H"],
        rows: Rows,
        progress: float,
    ) -> BatchTerms:
        """The terms of a batch, `progress` (0 to 1) into the run; gradients flow to all weights."""
        zero = codes.new_zeros(())
        nothing = BatchTerms(zero, zero, zero, codes.new_zeros(len(codes)))
        started = self.certificate is not None and progress >= self.certificate.start
        if self.readout is None or (self.penalty is None and not started):
            return nothing
        decoded = decoded_site(weights, norm, self.site)
        active, u = sparse(codes), rows.activations[:, self.site]
        penalty, weighted = zero, zero
        if self.penalty is not None:
            penalty = self._penalty(self.penalty, self.readout, decoded, active, u, rows)
            weighted = weighted + self.penalty.weight * penalty
        if self.certificate is None or not started:
            return BatchTerms(weighted, penalty.detach(), zero, nothing.badness)
        chosen = self._subset(_answered(rows), self.certificate.rows)
        certified = certified_margins(
            self.readout,
            decoded,
            Sparse(active.features[chosen], active.values[chosen]),
            u[chosen],
            rows.label[chosen],
            self.certificate.rivals,
        )
        each = certificate_loss(certified, self.certificate.scale)
        loss = self._mean(each)
        badness = nothing.badness.masked_scatter(chosen, self.certificate.weight * each.detach())
        return BatchTerms(
            weighted + self.certificate.weight * loss, penalty.detach(), loss.detach(), badness
        )

    def _penalty(
        self,
        penalty: Penalty,
        readout: Readout,
        decoded: Decoded,
        active: Sparse,
        u: Float[torch.Tensor, "n d"],
        rows: Rows,
    ) -> Float[torch.Tensor, ""]:
        if penalty.kind == "interaction":
            chosen = self._subset(torch.ones_like(rows.label, dtype=torch.bool), penalty.rows)
            picked = Sparse(active.features[chosen], active.values[chosen])
            return self._mean(interaction_penalty(readout, contributions(readout, decoded, picked)))
        chosen = self._subset(_answered(rows), penalty.rows)
        picked = Sparse(active.features[chosen], active.values[chosen])
        certified = certified_margins(readout, decoded, picked, u[chosen], rows.label[chosen])
        return self._mean(certified.slack.sum(dim=1) / max(1, readout.answers - 1))

    def _subset(
        self, usable: Bool[torch.Tensor, " n"], most: int | None
    ) -> Bool[torch.Tensor, " n"]:
        """Of the usable samples of the first `most` of the joint batch, those of this process."""
        if most is None:
            return usable
        first = torch.zeros_like(usable)
        # Rows are dealt out in turn, so these are the first of the joint batch.
        first[: most // self.ranks.world] = True
        return usable & first

    def _mean(self, each: Float[torch.Tensor, " c"]) -> Float[torch.Tensor, ""]:
        """The mean over the joint batch, as the processes' average: their numbers may differ."""
        count = self.ranks.mean(each.new_tensor(float(len(each))))
        return each.sum() / torch.clamp(count, min=1.0)


def proof_terms_of(
    settings: CrosscoderSettings,
    source: ActivationSource,
    readout: Readout | None,
    ranks: Ranks,
    device: torch.device,
) -> ProofTerms:
    """The terms that the settings ask for.

    Raises CrosscoderError where there is no MLP or no site that it reads, and for a certificate
    of an MLP that is not the last.
    """
    penalty, certificate = settings.penalty, settings.certificate
    if penalty is not None and penalty.weight == 0:
        penalty = None
    if certificate is not None and certificate.weight == 0:
        certificate = None
    if penalty is None and certificate is None:
        return ProofTerms(None, None, None, 0, ranks)
    for name, term in (("penalty", penalty), ("certificate", certificate)):
        if term is not None and term.rows is not None:
            ranks.require_divides(f"{name} rows", term.rows)
    site = mlp_site(source, None if penalty is None else penalty.site)
    if readout is None:
        if source.transformer is None:
            raise CrosscoderError(
                "penalty and certificate need the weights of the MLP; pass readout=Readout(...)"
            )
        readout = Readout.of(source.transformer, source.sites[site].layer, device)
    needs_answers = certificate is not None or (penalty is not None and penalty.kind == "slack")
    if needs_answers and readout.answers == 0:
        raise CrosscoderError(
            f"site {source.sites[site].name!r} is not read by the last MLP, so there is no margin "
            "to certify there; use the penalty 'interaction', or the last resid_mid"
        )
    return ProofTerms(penalty, certificate, readout, site, ranks)


def mlp_site(source: ActivationSource, name: str | None = None) -> int:
    """Number of the site `name`, or of the last with the role ``resid_mid``.

    Raises CrosscoderError where there is none: an MLP's input must be among the sites.
    """
    roles = {"resid_mid", "ln2"}
    found = [
        number
        for number, site in enumerate(source.sites)
        if (site.role in roles if name is None else site.name == name)
    ]
    if not found:
        wanted = "with the role resid_mid" if name is None else f"named {name!r}"
        raise CrosscoderError(
            f"no site {wanted} among {', '.join(site.name for site in source.sites)}; penalty and "
            "certificate need what the MLP reads"
        )
    return max(found, key=lambda number: source.sites[number].layer)


def decoded_site(weights: Weights, norm: Normalisation, site: int) -> Decoded:
    """The decoder at one site in raw units."""
    scale = norm.scale[site]
    return Decoded(weights.W_dec[:, site] / scale, weights.b_dec[site] / scale + norm.mean[site])


def _answered(rows: Rows) -> Bool[torch.Tensor, " n"]:
    """Rows that the answer is read from: labelled ones, at the last position of their sequence."""
    n_tokens = rows.token_ids.shape[1]
    known = rows.label >= 0
    return known & (rows.position == n_tokens - 1) if n_tokens else known
