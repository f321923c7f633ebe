"""Texts of others as they may stand on a terminal."""

# Breaks of lines and tabs become spaces: what is printed is a line.
_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x85\u2028\u2029"), " ")
# What a terminal obeys; what turns the direction of writing, so that a line reads as another; halves of characters.
_STEERING = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
_TABLE = dict.fromkeys(_STEERING, "\ufffd") | _SPACES


def printable(text: str) -> str:
    """One line without the characters that would steer a terminal: it may quote a file of somebody's."""
    return text if text.isprintable() else text.translate(_TABLE)
