"""Choosing among samples: needs answers and scores only, so it runs on stored predictions."""
