"""Frozen values and pure functions: no I/O, no clock. Instants and `now` are seconds since the epoch."""
