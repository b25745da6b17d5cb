"""Several texts at once: speculative beam sampling."""

from draftwood.beams.pool import Beam
from draftwood.beams.sample import BeamStep, sample_beams

__all__ = ["Beam", "BeamStep", "sample_beams"]
