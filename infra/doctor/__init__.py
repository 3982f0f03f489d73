"""The doctor: finds what is wrong with a fleet, shows the original error messages, and gives a remedy."""
