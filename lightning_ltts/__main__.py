"""`python -m lightning_ltts` is `ltts`."""

from lightning_ltts.cli.main import main

main()
