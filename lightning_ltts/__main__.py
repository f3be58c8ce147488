"""`python -m lightning_ltts` is `ltts`."""

from lightning_ltts.cli import main

main()
