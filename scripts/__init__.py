"""What `make` and the checks run; not part of the package."""
