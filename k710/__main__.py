"""`python -m k710` is the `k710` command."""

from k710.cli import main

main(prog_name="k710")
