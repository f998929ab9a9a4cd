"""The Store on SQLite: the only SQL."""
