"""What makes trajectories differ: samplers with keyed randomness."""

from lightning_ltts.sampling.learned_noise import LearnedNoise
from lightning_ltts.sampling.samplers import (
    Deterministic,
    GaussianNoise,
    LearnedSpread,
    MCDropout,
    Sampler,
    TokenSampling,
)
from lightning_ltts.sampling.singular_values import SingularValueNoise
from lightning_ltts.sampling.streams import Stream

__all__ = [
    "Deterministic",
    "GaussianNoise",
    "LearnedNoise",
    "LearnedSpread",
    "MCDropout",
    "Sampler",
    "SingularValueNoise",
    "Stream",
    "TokenSampling",
]
