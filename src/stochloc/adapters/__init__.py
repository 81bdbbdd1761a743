"""Models of this package in other people's programs, one file each."""
