"""A random draw is a function of the sweep's seed, the trial and the key; the drawn value is the stored one."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from scipy import stats

from helpers.faulty_models import write
from helpers.sweeps import TINY, ledger, places, rows, states, table, weights
from helpers.trees import same_tree
from trainer.config.compose import Composer
from trainer.config.search_space import Range, draw, read
from trainer.errors import UserError
from trainer.sweeps.grid import compose_jobs, read_overrides

LR, MOMENTUM = "optim.lr=${loguniform:1e-4,1e-2}", "optim.momentum=${uniform:0.85,0.99}"


@cache
def composer() -> Composer:
    return Composer()


def drawn(key: str, *words: str) -> list[Any]:
    """Return the value of a key in each job of a sweep."""
    found = []
    for job in compose_jobs(composer(), read_overrides(composer(), words)):
        node = job.stored
        for name in key.split("."):
            node = node[name]
        found.append(node)
    return found


def test_a_draw_depends_on_seed_trial_and_key_alone() -> None:
    lr = drawn("optim.lr", "optim=sgd", LR, "trial=range(6)")
    assert len(set(lr)) == 6
    assert all(isinstance(value, float) and 1e-4 <= value <= 1e-2 for value in lr)
    assert drawn("optim.lr", MOMENTUM, "trial=range(6)", LR, "optim=sgd") == lr  # another key, another order
    assert drawn("optim.lr", "trial=5,3", LR, "epochs=3", "seed=7", "model=ann") == [lr[5], lr[3]]
    assert not set(drawn("optim.lr", LR, "trial=range(6)", "sweep.seed=1")) & set(lr)
    twins = ("optim=sgd", "optim.momentum=${uniform:0,0.9}", "model=mlp", "model.dropout=${uniform:0,0.9}")
    assert drawn("model.dropout", *twins, "trial=0") != drawn("optim.momentum", *twins, "trial=0")
    assert drawn("optim.lr", LR, "trial=2") == [lr[2]]


def many(text: str, key: str = "x", trials: int = 400) -> list[Any]:
    """Return the values drawn from a range in this number of trials."""
    found = []
    for trial in range(trials):
        tree = OmegaConf.create({"trial": trial, "sweep": {"seed": 0}, key: text})
        draw(tree, problems := [])
        assert not problems
        found.append(tree[key])
    return found


def test_the_distributions_are_what_they_are_called() -> None:
    logs = [math.log10(value) for value in many("${loguniform:1e-4,1e-2}")]
    assert stats.kstest(logs, stats.uniform(-4, 2).cdf).pvalue > 0.01
    assert stats.kstest(many("${uniform:-1,3}"), stats.uniform(-1, 4).cdf).pvalue > 0.01
    lags = many("${uniform:0,1}")
    assert abs(stats.pearsonr(lags[1:], lags[:-1]).statistic) < 0.2
    assert abs(stats.pearsonr(lags, many("${uniform:0,1}", key="y")).statistic) < 0.2


def test_integers_include_both_ends_and_choices_all() -> None:
    sizes, chosen = many("${integer:3,5}"), many("${choice:relu,tanh,gelu}", key="y")
    assert set(sizes) == {3, 4, 5}
    assert set(chosen) == {"relu", "tanh", "gelu"}
    pairs = Counter(zip(sizes, chosen, strict=True))
    assert len(pairs) == 9
    assert stats.chisquare(list(pairs.values())).pvalue > 0.01  # the one does not follow from the other
    assert set(many("${integer:-1,0}", trials=50)) == {-1, 0}


@pytest.mark.parametrize("spelling", ["uniform:0.1,0.7", "loguniform:1e-4,1e-2", "integer:-2,7", "loguniform:3,1e9"])
def test_nothing_is_drawn_outside_the_range(spelling: str) -> None:
    given = read("${" + spelling + "}")
    assert given is not None
    low, high = given.values
    for share in (0.0, 2**-53, 0.25, 0.5, 1 - 2**-53):
        assert low <= given.at(share) <= high


def test_spellings() -> None:
    assert read("${ uniform : 0, 1 }") == Range("uniform", (0, 1))
    assert read("${loguniform:1e-4,1E-2}") == Range("loguniform", (1e-4, 1e-2))
    assert read("${choice:a, 2,true,null,1e-3}") == Range("choice", ("a", 2, True, None, 1e-3))
    for other in (None, 3, "uniform", "${oc.env:HOME}", "a ${uniform:0,1}", "${uniform}"):
        assert read(other) is None


@pytest.mark.parametrize(
    "value",
    [
        "${uniform:1}",
        "${uniform:2,1}",
        "${uniform:1,1}",
        "${uniform:a,b}",
        "${uniform:0,.inf}",
        "${uniform:.nan,1}",
        "${uniform:0,1,2}",
        "${uniform:true,2}",
        "${loguniform:0,1}",
        "${loguniform:-1,1}",
        "${integer:1.5,3}",
        "${integer:3,1}",
        "${choice:}",
        "${normal:0,1}",
        "${uniform}",
    ],
)
def test_a_wrong_spelling_is_answered(value: str) -> None:
    with pytest.raises(UserError) as raised:
        compose_jobs(composer(), read_overrides(composer(), [f"optim.lr={value}", "trial=range(2)"]))
    assert len(raised.value.problems) == 1
    assert "optim.lr" in str(raised.value) or value.strip("${}").partition(":")[0] in str(raised.value)


@pytest.mark.parametrize("words", [["-m", "seed=0,1"], []])
def test_a_draw_needs_a_trial(words: list[str], sweep) -> None:
    done = sweep(*words, LR)
    assert done.code == 2
    assert "optim.lr" in done.err
    assert "trial=range(10)" in done.err


def test_what_was_drawn_must_be_accepted_where_it_stands(sweep) -> None:
    done = sweep("-m", "epochs=${uniform:1,5}", "trial=range(2)", "batch_size=${integer:-5,-1}")
    assert done.code == 2
    assert "epochs=" in done.err
    assert "batch_size=-" in done.err


def test_a_draw_in_a_list_is_a_draw_or_a_mistake(sweep) -> None:
    done = sweep("-m", *TINY, "model.hidden=[${integer:4,40},8]", "trial=range(3)", "epochs=1", "test=false")
    assert "Traceback" not in done.err
    if done.code == 0:
        widths = [line["stored"]["model"]["hidden"][0] for line in ledger(done.folder) if "stored" in line]
        assert len(set(widths)) > 1
        assert all(4 <= width <= 40 for width in widths)
    else:
        assert done.code == 2


def test_ten_draws_are_kept_as_numbers_and_can_be_repeated_alone(sweep) -> None:
    words = ("experiment=random_search", *TINY, "epochs=1", "test=false")
    done = sweep(*words, "trial=range(3)")
    assert done.code == 0, done.err
    trees = [yaml.safe_load((place / "config.yaml").read_text()) for place in places(done.folder)]
    lr, momentum = ([tree["optim"][key] for tree in trees] for key in ("lr", "momentum"))
    assert lr == drawn("optim.lr", "trial=range(3)", LR)
    assert momentum == drawn("optim.momentum", "optim=sgd", "trial=range(3)", MOMENTUM)
    assert [tree["trial"] for tree in trees] == [0, 1, 2]
    assert sorted(float(row["optim.lr"]) for row in table(done.folder)) == sorted(lr)
    assert {rows(place / "metrics.csv")[0]["lr"] for place in places(done.folder)} == set(map(repr, lr))
    alone = sweep("optim=sgd", *TINY, LR, MOMENTUM, "epochs=1", "test=false", "trial=2")
    assert same_tree(weights(alone.folder), weights(places(done.folder)[2]))
    more = sweep("-m", f"resume={done.folder}", "trial=range(4)")
    assert more.code == 0, more.err
    assert set(states(done.folder).values()) == {"done"}
    assert len(places(done.folder)) == 4


def test_the_recipe_draws_ten_times() -> None:
    jobs = compose_jobs(composer(), read_overrides(composer(), ["experiment=random_search"]))
    assert [job.stored["trial"] for job in jobs] == list(range(10))
    assert all(1e-4 <= job.stored["optim"]["lr"] <= 1e-2 for job in jobs)
    assert all(0.85 <= job.stored["optim"]["momentum"] <= 0.99 for job in jobs)


def test_what_was_drawn_is_in_the_table_of_several_models(sweep) -> None:
    write("conf/model/mlp_small.yaml", "# Ours\n_target_: trainer.models.mlp.MLP\nhidden: [4]\n")
    words = ("experiment=random_search", *TINY[:1], "model=mlp,mlp_small", *TINY[2:], "epochs=1", "test=false")
    done = sweep(*words, "trial=range(2)")
    assert done.code == 0, done.err
    found = table(done.folder)
    assert len({row["optim.lr"] for row in found}) == 2
    assert len({row["optim.momentum"] for row in found}) == 2
    assert {row["model"] for row in found} == {"mlp", "mlp_small"}
    assert not (done.folder / "leaderboard_groups.csv").exists()  # no setting came twice
