"""Run the command line as `python -m cfcd`."""

from cfcd.cli import main

main()
