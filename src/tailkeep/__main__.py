"""`python -m tailkeep` is the `tailkeep` command."""

from tailkeep.cli import main

main()
