"""Faults of every kind: a few with fixed seeds by default, and all of them with `pytest -m faults`."""

from __future__ import annotations

from collections.abc import Iterator

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


def check(name: str, arena: Arena, seeds: range) -> None:
    tally = Tally()
    for seed in seeds:
        attempt(KINDS[name], arena, seed, tally)
    print(f"{name}: {tally.tries} tries, {tally.injected} faults")
    failed = [f"python scripts/faults.py --only {name} --seed {seed}: {text}" for seed, text in tally.failures]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.thin])
def test_no_promise_is_broken(name: str, arena: Arena) -> None:
    check(name, arena, range(KINDS[name].thin))


@pytest.mark.faults
@pytest.mark.parametrize("name", KINDS)
def test_no_promise_is_broken_at_length(name: str, arena: Arena) -> None:
    check(name, arena, range(100, 100 + KINDS[name].full))


@pytest.mark.faults
@pytest.mark.parametrize("name", ["plain", "table"])
def test_a_kill_at_each_write_changes_nothing(name: str, arena: Arena) -> None:
    setting = BY_NAME[name]
    for at in arena.whole(setting).writes:
        with arena.place(setting) as place:
            assert place.finish([kill(at, "tear")]) == 1
