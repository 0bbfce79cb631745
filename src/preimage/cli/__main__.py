"""`python -m preimage.cli`."""

from preimage.cli import main

main()
