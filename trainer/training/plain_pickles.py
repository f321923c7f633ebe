"""Files of `torch.save` from before torch 1.6: five pickles, then the bytes of the tensors. They are only read here."""

from __future__ import annotations

from pickletools import genops
from typing import IO, Any

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle; the others: version, system, content, keys of the tensors
TEXTS = ("BINUNICODE", "SHORT_BINSTRING")
PLAIN = ("BININT", "BININT1", "BININT2", "LONG1", "NONE", "GLOBAL")


def has_all_tensors(file: IO[bytes]) -> bool:
    """Return whether such a file lists the bytes of each tensor that its content names; True for any other file.

    torch returns memory that is not set for those that are not listed.
    """
    file.seek(0)
    if MAGIC_NUMBER not in [argument for _, argument, _ in genops(file)]:
        return True
    for _ in range(2):
        list(genops(file))
    named = _named_keys(file)
    listed = {argument for code, argument, _ in genops(file) if code.name in TEXTS}
    return None not in named and named <= listed


def _named_keys(file: IO[bytes]) -> set[Any]:
    """Return the keys of the tensors that a pickle names; None for one that is not named as torch does it.

    torch writes a tuple of plain values, ("storage", type, key, device, size, view), and the operation BINPERSID.
    """
    keys = set()
    memo: dict[Any, Any] = {}
    values: list[Any] | None = None  # since the last mark, as long as they are plain
    closed: list[Any] | None = None  # the tuple that has just been closed
    for code, argument, _ in genops(file):
        if code.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = values[-1] if values else None
            continue
        if code.name == "BINPERSID":
            keys.add(closed[2] if closed is not None and len(closed) > 2 else None)
        closed = values if code.name == "TUPLE" else None
        if code.name == "MARK":
            values = []
        elif values is not None and code.name in ("BINGET", "LONG_BINGET"):
            values.append(memo.get(argument))
        elif values is not None and code.name in (*TEXTS, *PLAIN):
            values.append(argument if code.name in TEXTS else None)
        else:
            values = None
    return keys
