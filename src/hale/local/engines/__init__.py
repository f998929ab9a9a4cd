"""Engines: what starts and stops replicas."""
