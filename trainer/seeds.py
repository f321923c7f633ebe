"""Seeds derived from (seed, use, epoch, step) instead of drawn from a stream."""

from hashlib import blake2b


def derive(seed: int, *use: int | str) -> int:
    """Return a seed in [0, 2**63) for one use of randomness; it is the same on every machine.

    Because nothing is consumed, a resumed run needs only the counters to draw what an uninterrupted one draws.
    """
    text = "/".join(map(str, (seed, *use)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
