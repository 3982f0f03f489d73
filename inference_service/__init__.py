"""The inference service of a node: speech recognition, emotion detection, synthetic-speech detection."""

__version__ = "0.1.0"
