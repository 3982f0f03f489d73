"""The diagnosis of a fleet: what is wrong, in the words of whoever said so, and what to do about it."""
