"""Choosing among samples, and searching for better ones."""
