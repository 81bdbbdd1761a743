"""`python -m stochloc`."""

from stochloc.cli import main

main()
