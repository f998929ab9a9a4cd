"""The ports in memory: shipped, and what most tests run on."""
