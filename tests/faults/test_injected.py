"""Faults of every kind: a few with fixed seeds by default, and all of them with `pytest -m faults`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from faults.arena import Arena, kill
from faults.kinds import Tally, attempt, load_kinds
from faults.settings import BY_NAME
from helpers.processes import NO_PROC

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NO_PROC, reason="open files are looked up in /proc")]
KINDS = load_kinds()


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("faults"))
    yield arena
    arena.close()


def check(name: str, arena: Arena, seeds: range, record: Callable[..., None]) -> None:
    """Try a kind of fault with these seeds, and fail if a promise was broken."""
    tally = Tally()
    for seed in seeds:
        attempt(KINDS[name], arena, seed, tally)
    record(name, tally.tries, tally.injected, len(tally.failures))
    failed = [f"python scripts/faults.py --only {name} --seed {seed}: {text}" for seed, text in tally.failures]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.thin])
def test_no_promise_is_broken(name: str, arena: Arena, record: Callable[..., None]) -> None:
    check(name, arena, range(KINDS[name].thin), record)


@pytest.mark.faults
@pytest.mark.parametrize("name", KINDS)
def test_no_promise_is_broken_at_length(name: str, arena: Arena, record: Callable[..., None]) -> None:
    check(name, arena, range(100, 100 + KINDS[name].full), record)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["plain", "table"])
def test_a_kill_at_each_write_changes_nothing(name: str, arena: Arena, record: Callable[..., None]) -> None:
    setting, failed = BY_NAME[name], []
    moments = arena.whole(setting).writes
    for at in moments:
        try:
            with arena.place(setting) as place:
                assert place.finish([kill(at, "tear")]) == 1
        except AssertionError as error:
            failed.append(f"killed at moment {at}, {arena.whole(setting).moments[at]}: {error}")
    record(f"each write of {name}", len(moments), len(moments), len(failed))
    assert not failed, "\n".join(failed)
