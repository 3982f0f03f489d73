"""The HTTP entrance: parsing and formatting around `engine.Engine`."""
