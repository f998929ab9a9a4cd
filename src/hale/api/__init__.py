"""The REST API: Gradient's, and hale's own beside it."""
