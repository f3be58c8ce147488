"""The rollout engine: each prefix is read once."""
