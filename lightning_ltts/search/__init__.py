"""Searches that walk the tree of prefixes, steered by a LatentRM."""
