"""Makes text from outside safe to show on a terminal or a page.

Names, reasons and logs come from files and plug-ins. Escape sequences in them would move the cursor, change colours or
rename the window, U+202E would turn a line around, and a lone surrogate cannot be encoded.
"""


def printable(text: str) -> str:
    """Return the text with a space in the place of every character that does not print; line feeds stay."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def one_line(text: str, most: int | None = None) -> str:
    """Return the printable text on one line, its runs of spaces joined; beyond `most` characters it ends in `…`."""
    line = " ".join(printable(text).split())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"
