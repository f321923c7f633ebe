"""Lines of JSON with a checksum each. Does not import torch."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

_CHECKSUM = re.compile(rb', "crc": "([0-9a-f]{8})"}$')


def with_checksum(line: dict[str, Any]) -> bytes:
    """Return a line of the file, whose last value is the CRC-32 of the line without it."""
    text = json.dumps(line, ensure_ascii=False).encode()
    return b'%s, "crc": "%08x"}\n' % (text[:-1], zlib.crc32(text))


def checked(text: bytes) -> Any:
    """Parse a line.

    Raises:
        ValueError: it is not JSON, or damaged. A flipped bit may leave a line that can be read, with another number.
    """
    if found := _CHECKSUM.search(text):
        content = text[: found.start()] + b"}"
        if zlib.crc32(content) != int(found[1], 16):
            raise ValueError("its checksum is wrong")
    return json.loads(text)
