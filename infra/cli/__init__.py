"""`fleet`, the command line of the project."""
