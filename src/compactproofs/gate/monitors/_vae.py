"""What a small variational autoencoder of the trusted rows does not reproduce."""

from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int

from .._extras import needed
from ._monitor import checked, fitted, spread

_FARTHEST: Final = 1e6
"""In standard deviations; with the clamp below it keeps float32 from overflowing."""


class VariationalResidual:
    """The negative evidence bound of a Gaussian VAE, in nats up to a constant.

    Sites in units of their standard deviation; one hidden layer in encoder and decoder. Scored at
    the mean of the code, so that a score does not depend on chance.
    """

    def __init__(self, codes: int = 8, hidden: int = 64, steps: int = 1500, seed: int = 0) -> None:
        """``codes`` latent numbers, ``steps`` of Adam on batches of 128."""
        self._codes, self._hidden, self._steps, self._seed = codes, hidden, steps, seed
        self._scale: tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]] | None = None
        self._encoder: Any = None
        self._decoder: Any = None

    def fit(
        self, h: Float64[np.ndarray, "m s"], labels: Int[np.ndarray, " m"]
    ) -> "VariationalResidual":
        """Train on the rows; the labels are not used. Cost: a second for 32 sites."""
        checked(h, labels, rows=2)
        torch = needed("torch", "the VAE monitor")
        from compactproofs.training._torch import one_thread

        self._scale = h.mean(axis=0), spread(h)
        sites, nn = h.shape[1], torch.nn
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._encoder = nn.Sequential(
                nn.Linear(sites, self._hidden), nn.ReLU(), nn.Linear(self._hidden, 2 * self._codes)
            )
            self._decoder = nn.Sequential(
                nn.Linear(self._codes, self._hidden), nn.ReLU(), nn.Linear(self._hidden, sites)
            )
            parameters = [*self._encoder.parameters(), *self._decoder.parameters()]
            optimiser = torch.optim.Adam(parameters, lr=2e-3)
            rows = self._scaled(h)
            for _ in range(self._steps):
                batch = rows[torch.randint(len(rows), (min(128, len(rows)),))]
                loss = self._loss(batch, chance=True).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return self

    def score(self, h: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, " n"]:
        """The negative bound. Cost: a forward pass."""
        mean, _ = fitted(self._scale, self)
        torch = needed("torch", "the VAE monitor")
        with torch.no_grad():
            rows = self._scaled(checked(h, sites=len(mean)))
            return self._loss(rows, chance=False).numpy().astype(np.float64)

    def _scaled(self, h: Float64[np.ndarray, "n s"]) -> Any:
        mean, sd = fitted(self._scale, self)
        torch = needed("torch", "the VAE monitor")
        scaled = np.clip((h - mean) / sd, -_FARTHEST, _FARTHEST)
        return torch.as_tensor(scaled, dtype=torch.float32)

    def _loss(self, rows: Any, chance: bool) -> Any:
        mean, log_variance = self._encoder(rows).chunk(2, dim=1)
        log_variance = log_variance.clamp(-10.0, 10.0)
        noise = (0.5 * log_variance).exp() * (mean.new_empty(mean.shape).normal_() if chance else 0)
        missed = ((self._decoder(mean + noise) - rows) ** 2).sum(1)
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return 0.5 * (missed + divergence)
