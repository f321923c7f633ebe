"""Injects faults into the program for hours and prints one table. Every failure has a seed, with which it repeats.

python scripts/faults.py --hours 1
python scripts/faults.py --tries 1000 --only kill-moment --only kill-save
python scripts/faults.py --seed 17 --only kill-save            # one try again; its folder is kept
python scripts/faults.py --planted                             # can the tests fail?
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from faults.arena import Arena  # noqa: E402
from faults.kinds import Kind, Tally, attempt, load_kinds  # noqa: E402
from faults.planted import check_all  # noqa: E402

COLUMNS = "{:16} {:>6} {:>8} {:>12} {:>7} {:>7}"


def main() -> int:
    """Run the script; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, help="how long to go on")
    parser.add_argument("--tries", type=int, help="how many tries")
    parser.add_argument("--kills", type=int, help="how many commands to end by a fault")
    parser.add_argument("--seed", type=int, help="the only seed; without --hours and --tries one try")
    parser.add_argument("--from-seed", type=int, default=1000, help="the first seed (the tests use those below 1000)")
    parser.add_argument("--exitfirst", action="store_true", help="stop at the first failure")
    parser.add_argument("--only", action="append", choices=sorted(load_kinds()), help="only this kind; repeatable")
    parser.add_argument("--planted", nargs="?", const="", metavar="NAME", help="show that planted defects are noticed")
    options = parser.parse_args()
    if options.planted is not None:
        return check_all(options.planted)
    kinds = [kind for name, kind in load_kinds().items() if not options.only or name in options.only]
    return inject(kinds, options)


def inject(kinds: list[Kind], options: argparse.Namespace) -> int:
    """Try the kinds in turn and print the table; return 1 if there was a failure."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # print the table then, too
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    arena, tallies = Arena(folder), {kind.name: Tally() for kind in kinds}
    deadline = time.monotonic() + 3600 * (options.hours or 1e6)
    tries = options.tries or (len(kinds) if options.seed is not None and not options.hours else None)
    seeds = itertools.repeat(options.seed) if options.seed is not None else itertools.count(options.from_seed)
    try:
        for count, (seed, kind) in enumerate((seed, kind) for seed in seeds for kind in kinds):
            failed = options.exitfirst and any(tally.failures for tally in tallies.values())
            enough = options.kills and arena.faults >= options.kills
            if failed or enough or time.monotonic() > deadline or (tries is not None and count >= tries):
                break
            tally = tallies[kind.name]
            failures = len(tally.failures)
            attempt(kind, arena, seed, tally)
            for failed, message in tally.failures[failures:]:
                print(f"--only {kind.name} --seed {failed}: {message}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        arena.close()
    print_table(tallies)
    print(f"folders of failures are in {folder}" if any(t.failures for t in tallies.values()) else "no failure")
    return 1 if any(tally.failures for tally in tallies.values()) else 0


def print_table(tallies: dict[str, Tally]) -> None:
    """Print a row for each kind of fault, the sum, and the seeds of failures."""
    print(COLUMNS.format("kind", "tries", "faults", "differences", "losses", "others"), " seeds of failures")
    total = Tally()
    for name, tally in tallies.items():
        _print_row(name, tally)
        total.tries, total.injected, total.counts = (
            total.tries + tally.tries,
            total.injected + tally.injected,
            total.counts + tally.counts,
        )
    _print_row("all", total)


def _print_row(name: str, tally: Tally) -> None:
    counts = [tally.counts[what] for what in ("differences", "losses", "others")]
    seeds = " ".join(str(seed) for seed, _ in tally.failures)
    print(COLUMNS.format(name, tally.tries, tally.injected, *counts), f" {seeds}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
