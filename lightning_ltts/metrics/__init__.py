"""Metrics with one value per question."""
