"""One file of routes per resource; each translates a request, asks once and shows the answer."""
