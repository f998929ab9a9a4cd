"""The written form of a deployment: dialects, validation, positions."""
