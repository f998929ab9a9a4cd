"""Text that someone else wrote, made fit to show. Pure."""

SHOWN = 256
"""Characters of an answer that the result of a success keeps."""


def readable(text: bytes | bytearray, limit: int) -> str:
    """The beginning of the text, decoded, on one line and without control characters."""
    # A character has at most four bytes: never decode more than is shown.
    return harmless(text[: 4 * limit].decode("utf-8", "replace"))[:limit]


def harmless(text: str) -> str:
    """The text on one line: nothing in it moves a cursor or changes colours."""
    text = text.strip()
    if text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )
