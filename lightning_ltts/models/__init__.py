"""Modules without Lightning: reasoner, LatentRM, shared-prefix attention, checkpoints."""
