"""Randomness is derived, not drawn from a stream: a seed for each (seed, what, epoch, step)."""

from hashlib import blake2b


def derive(seed: int, *what: int | str) -> int:
    """Seed in [0, 2**63) for one use of randomness; the same arguments give the same seed on every machine.

    Because nothing is consumed, a resumed run needs only the counters to draw what an uninterrupted one draws.
    """
    text = "/".join(map(str, (seed, *what)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
