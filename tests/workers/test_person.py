"""Rewards of one person: the pairs of a rater, or pairs that are given, become the context of what is scored."""

import numpy as np
import pytest

from tests.workers.making import LocalRun, turn
from tests.workers.tastes import pair_of, personal_run, taste_pairs
from workers.context import CheckpointRef
from workers.data.spread import spread
from workers.errors import JobError, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.specs import parse_spec

GOOD = [pair_of("good good", "bad", n) for n in range(4)]
BAD = [pair_of("bad", "good good", n) for n in range(4)]
TEXTS = ["good good good", "bad bad"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[LocalRun, str]:
    """A latent_user whose raters with an even number like good words and the others bad ones."""
    folder = tmp_path_factory.mktemp("person")
    local = personal_run(folder, "latent_user", "tiny-encoder", taste_pairs(240, n_raters=12), latent=4, hidden=32)
    result = local.train(
        epochs=25,
        batch_pairs=16,
        rater_key="who",
        learning_rate=5e-4,
        eval_every=40,
        checkpoint_every=400,
        objective_config={"max_context": 4, "anneal_steps": 50, "beta": 1e-3},
    )
    return local, result["checkpoint"]


def of_rater(name: str, **more):
    return {"source": {"dataset": "pairs"}, "rater": name, "rater_key": "who", **more}


def ask(trained, person, **spec):
    local, uid = trained
    job = JOBS.get("score_text")
    raw = {
        "checkpoints": [uid],
        "prompt": [turn("user", "question 7")],
        "responses": [{"messages": [turn("assistant", text)]} for text in TEXTS],
        **({"person": person} if person else {}),
        **spec,
    }
    return job().run(local.context("ask"), parse_spec(job.Spec, raw))


def test_typed_texts_are_rated_as_the_person_would(trained) -> None:
    values = {
        name: ask(trained, person)["rewards"][0]["values"]
        for name, person in {
            "given good": {"pairs": GOOD},
            "given bad": {"pairs": BAD},
            "rater 0": of_rater("rater 0"),
            "rater 1": of_rater("rater 1"),
        }.items()
    }
    assert values["given good"][0] > values["given good"][1]
    assert values["given bad"][0] < values["given bad"][1]
    assert values["rater 0"][0] > values["rater 0"][1]
    assert values["rater 1"][0] < values["rater 1"][1]


def test_who_was_asked_for_is_told(trained) -> None:
    found = ask(trained, of_rater("rater 1", n_pairs=6))
    assert found["person"] == {"rater": "rater 1", "n_pairs": 6, "n_same_prompt": 0}
    (row,) = found["rewards"]
    assert [part["label"] for part in row["parts"]] == ["personalised"] * 2
    assert [part["n_context"] for part in row["parts"]] == [6, 6]
    plain = ask(trained, None)
    assert "person" not in plain
    assert plain["rewards"][0]["parts"][0]["n_context"] == 0


def test_a_pair_of_the_same_prompt_is_no_part_of_the_context(trained) -> None:
    """It would hold the answer. Pairs that are given count as they are."""
    local, _ = trained
    own = [pair for pair in local.pairs if pair.meta["who"] == "rater 1"]
    at = {"prompt": own[0].prompt}
    n_same = sum(pair.prompt == own[0].prompt for pair in own)
    found = ask(trained, of_rater("rater 1", n_pairs=64), **at)
    assert found["person"] == {"rater": "rater 1", "n_pairs": len(own) - n_same, "n_same_prompt": n_same}
    given = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in own[:5]]
    assert ask(trained, {"pairs": given}, **at)["person"]["n_pairs"] == 5


def test_a_family_that_knows_no_persons_says_so_and_the_others_go_on(trained) -> None:
    local, uid = trained
    local.checkpoints["rule"] = CheckpointRef("rule", "length", {}, None)
    rule, personal = ask(trained, {"pairs": GOOD}, checkpoints=["rule", uid])["rewards"]
    assert "takes no pairs of a person" in rule["error"]["message"]
    assert rule["values"] == [None, None]
    assert personal["error"] is None


def test_a_source_is_scored_for_each_person_beside_the_rewards_of_all(trained) -> None:
    local, uid = trained
    ctx = local.context("scores")
    local.run("score", ctx, checkpoint=uid)
    mean_user = dict(ctx.scores[uid])
    told = {name: local.run("score", ctx, checkpoint=uid, person=of_rater(name)) for name in ("rater 0", "rater 1")}
    assert ctx.scores[uid] == mean_user
    assert told["rater 0"]["person"] == {
        "n_pairs": 16,
        "rater": "rater 0",
        "extra": told["rater 0"]["person"]["extra"],
    }
    right = {}
    for name, found in told.items():
        assert found["n_scored"] == 480
        rewards = ctx.scores[uid + found["person"]["extra"]]
        likes = [pair for pair in local.pairs if pair.meta["who"] == name]
        right[name] = np.mean(
            [
                (rewards[p.response_a_id] > rewards[p.response_b_id]) == (p.verdict == "a")
                for p in likes
                if p.response_a != p.response_b
            ]
        )
    assert min(right.values()) >= 0.9
    again = local.run("score", ctx, checkpoint=uid, person=of_rater("rater 1"))
    assert again["n_scored"] == 0


def test_rewards_of_a_source_are_those_of_the_scorer_with_the_same_context(trained) -> None:
    local, uid = trained
    ctx = local.context("same")
    key = local.run("score", ctx, checkpoint=uid, person={"pairs": BAD})["person"]["extra"]
    family = FAMILIES.get("latent_user")
    scorer = family.open(parse_spec(family.Config, local.model), local.checkpoints[uid].path)
    some = local.pairs[:6]
    items = [(pair.prompt, pair.response_a, {"context": BAD}) for pair in some]
    alone = [scorer.score([one]).values[0] for one in items]
    assert [ctx.scores[uid + key][pair.response_a_id] for pair in some] == pytest.approx(alone, abs=1e-5)


def test_a_rater_with_too_few_pairs_is_refused(trained) -> None:
    with pytest.raises(JobError, match="rater 99 has 0 pairs with a chosen response there; 2 are needed"):
        ask(trained, of_rater("rater 99"))


@pytest.mark.parametrize(
    ("person", "says"),
    [
        ({}, "one of the two"),
        ({"pairs": GOOD, "rater": "r-1"}, "one of the two"),
        ({"pairs": GOOD[:1]}, "give 2 or more"),
        ({"pairs": GOOD * 17}, "/person/pairs"),
        ({"pairs": [pair_of("a", "a", 1), GOOD[0]]}, "/person/pairs/0: The two responses are the same"),
        ({"pairs": [{"prompt": 1}, GOOD[0]]}, "/person/pairs/0/prompt"),
        ({"rater": "r-1"}, "give both"),
        ({"source": {"queue": "x"}}, "give both"),
        ({"source": {"dataset": "x"}, "rater": "r"}, "give rater_key"),
        ({"source": {"queue": "x"}, "rater": "r", "rater_key": "who"}, "for datasets alone"),
        ({"source": {"queue": "x", "dataset": "y"}, "rater": "r"}, "one of the three"),
        ({"source": {"queue": "x"}, "rater": "r", "n_pairs": 65}, "/person/n_pairs"),
    ],
)
def test_a_person_who_cannot_be_known_is_refused_at_once(trained, person, says) -> None:
    for kind, more in (("score_text", {"prompt": [], "responses": []}), ("score", {"source": {"dataset": "pairs"}})):
        job = JOBS.get(kind)
        name = "checkpoint" if kind == "score" else "checkpoints"
        raw = {name: "uid" if kind == "score" else ["uid"], "person": person, **more}
        with pytest.raises(SpecError) as caught:
            parse_spec(job.Spec, raw)
        assert says in str(caught.value)


def test_a_score_job_of_a_family_that_knows_no_persons_is_refused(trained) -> None:
    local, _ = trained
    local.checkpoints["rule"] = CheckpointRef("rule", "length", {}, None)
    with pytest.raises(SpecError, match="takes no pairs of a person"):
        local.run("score", checkpoint="rule", person={"pairs": GOOD})


def test_rows_are_spread_evenly() -> None:
    assert spread([1, 2], 2) == spread([1, 2], 9) == [1, 2]
    assert spread(range(100), 4) == [0, 33, 66, 99]
    assert len(set(spread(range(65), 64))) == 64
