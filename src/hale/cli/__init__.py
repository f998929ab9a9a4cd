"""The command line: speaks HTTP only, except `serve`."""
