"""The declaration of a stack as ordinary processes on this computer."""
