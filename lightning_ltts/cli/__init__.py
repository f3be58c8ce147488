"""The console script `ltts`."""

from lightning_ltts.cli.main import main

__all__ = ["main"]
