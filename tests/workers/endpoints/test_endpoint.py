"""The family `endpoint` against a real server on a local port."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

from tests.workers.endpoints.server import RewardServer, reward_of, running
from tests.workers.making import LocalRun, make_pairs, turn
from workers.context import CheckpointRef
from workers.endpoints.addresses import KEY_PREFIX, PRIVATE_HOSTS, api_key, is_private, resolve
from workers.endpoints.scorer import GIVE_UP_AFTER
from workers.errors import JobCancelled, JobError, SpecError
from workers.families import FAMILIES
from workers.specs import parse_spec

KEY = KEY_PREFIX + "TEST"


@pytest.fixture
def server(monkeypatch):
    with running(RewardServer()) as found:
        monkeypatch.setenv(PRIVATE_HOSTS, "127.0.0.1")
        yield found


def config_of(server: RewardServer, **given):
    return {"url": server.url, "timeout_s": 5, "retries": 3, **given}


def scorer_of(server: RewardServer, **given):
    family = FAMILIES.get("endpoint")
    return family.open(parse_spec(family.Config, config_of(server, **given)), None)


def items_of(*texts: str):
    return [([turn("user", "a question")], [turn("assistant", text)]) for text in texts]


OWN = {
    "kind": "custom_json",
    "template": {"question": "{prompt}", "answer": "{response}", "n": 1},
    "score_path": "out[0].r",
    "tokens_path": "$.cost.tokens",
}


@pytest.mark.parametrize(
    ("given", "route"),
    [
        ({"kind": "vllm_pooling", "model": "rm"}, ""),
        ({"kind": "vllm_pooling"}, "/pooling"),
        ({"kind": "vllm_pooling"}, "/v1"),
        ({"kind": "vllm_classify"}, ""),
        ({"kind": "tei_rerank"}, ""),
        (OWN, "/own"),
    ],
)
def test_every_kind_gives_the_reward_of_its_server(server, given, route) -> None:
    texts = ["fine", "a longer one " * 4]
    scorer = scorer_of(server, **given, url=server.url + route, price_per_million_tokens=2.0)
    scores = scorer.score(items_of(*texts))
    assert scores.values.tolist() == pytest.approx([reward_of(text) for text in texts])
    expected = [7, 7] if route == "/own" else [len(text) for text in texts]
    assert scores.n_tokens.tolist() == expected
    told = scorer.report()
    assert told["n_tokens_billed"] == sum(expected)
    assert told["cost"] == pytest.approx(sum(expected) * 2 / 1e6)
    json.dumps(told)


def test_the_whole_conversation_is_sent(server) -> None:
    scorer_of(server, model="rm").score([([turn("system", "s"), turn("user", "{response}")], [turn("assistant", "r")])])
    assert [m["content"] for m in server.bodies[0]["messages"]] == ["s", "{response}", "r"]
    assert server.bodies[0]["model"] == "rm"
    scorer_of(server, **OWN, url=server.url + "/own").score(items_of("the {prompt}"))
    assert server.bodies[1] == {"question": "a question", "answer": "the {prompt}", "n": 1}


def test_what_passes_is_tried_again_and_the_rest_is_named(server) -> None:
    server.times = 2
    texts = ["busy now", "broken now", "fine", "garbage", "nan", "words", "empty", "two", "long text", "huge"]
    scores = scorer_of(server).score(items_of(*texts))
    good = scores.values[:3].tolist()
    assert good == pytest.approx([reward_of(text) for text in texts[:3]])
    assert np.isnan(scores.values[3:]).all()
    reasons = [part.get("unscored", "") for part in scores.parts]
    assert reasons[:3] == ["", "", ""]
    for text, words in zip(
        reasons[3:],
        ["is not JSON", "not finite", "a text at", "nothing at", "2 values", "maximum context", "not JSON"],
        strict=True,
    ):
        assert words in text


def test_what_stays_broken_fails_alone(server) -> None:
    server.times = 100
    scorer = scorer_of(server, retries=1)
    scores = scorer.score(items_of("broken", "fine"))
    assert np.isfinite(scores.values).tolist() == [False, True]
    assert "answered 500" in scores.parts[0]["unscored"]
    assert scorer.report()["errors"] == {"answered 500": 1}
    assert scorer.report()["n_retries"] == 1


def test_a_slow_answer_is_given_up_and_asked_for_again(server) -> None:
    started = time.monotonic()
    scorer = scorer_of(server, timeout_s=0.3)
    scores = scorer.score(items_of("slow text"))
    assert scores.values[0] == pytest.approx(reward_of("slow text"))
    assert scorer.report()["n_retries"] == 1
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(server, as_date) -> None:
    server.retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True) if as_date else "1.2"
    scorer_of(server, concurrency=1).score(items_of("busy", "fine"))
    first, second = server.arrivals[:2]
    assert second - first >= (1.0 if as_date else 1.15)


def test_a_pause_of_hours_is_not_waited_for(server) -> None:
    server.retry_after = "7200"
    scores = scorer_of(server).score(items_of("busy", "fine"))
    assert "asks for a pause of 7200 s" in scores.parts[0]["unscored"]
    assert np.isfinite(scores.values[1])


def test_rate_and_concurrency_are_kept(server) -> None:
    scorer_of(server, requests_per_minute=1200, concurrency=3).score(items_of(*[f"text {i}" for i in range(20)]))
    assert len(server.arrivals) == 20
    assert server.arrivals[-1] - server.arrivals[0] >= 19 * 0.05 * 0.9
    server.most_in_flight = 0
    scorer_of(server, concurrency=3).score(items_of(*[f"text {i}" for i in range(30)]))
    assert 2 <= server.most_in_flight <= 3


def test_a_key_is_read_from_the_environment_and_never_shown(server, monkeypatch) -> None:
    server.key = "s3cret"
    monkeypatch.setenv(KEY, "s3cret")
    scorer = scorer_of(server, api_key_env=KEY)
    assert np.isfinite(scorer.score(items_of("fine")).values).all()
    monkeypatch.setenv(KEY, "wr0ng")
    with pytest.raises(JobError, match="refuses the key") as caught:
        scorer_of(server, api_key_env=KEY).score(items_of("fine"))
    assert "wr0ng" not in caught.value.message
    assert "***" in caught.value.message
    monkeypatch.delenv(KEY)
    with pytest.raises(JobError, match="is not set"):
        scorer_of(server, api_key_env=KEY)
    monkeypatch.setenv(KEY, "two\nlines")
    with pytest.raises(JobError, match="cannot be sent"):
        scorer_of(server, api_key_env=KEY)


def test_a_key_goes_only_where_it_may() -> None:
    environment = {KEY: "k", KEY + "_HOSTS": "api.example.org", "DJANGO_SECRET_KEY": "x"}
    assert api_key(KEY, "https://api.example.org/score", environment) == "k"
    with pytest.raises(JobError, match="may not be sent to other"):
        api_key(KEY, "https://other.example.org", environment)
    with pytest.raises(JobError, match="not a variable for keys"):
        api_key("DJANGO_SECRET_KEY", "https://api.example.org", environment)


def test_wrong_routes_end_the_run_at_once(server) -> None:
    with pytest.raises(JobError, match=r"no such route or model \(404\)"):
        scorer_of(server, url=server.url + "/nowhere").score(items_of("fine", "fine too"))
    with pytest.raises(JobError, match="is not known here"):
        scorer_of(server, url="http://no-such-host.invalid:1")


def test_a_server_that_is_down_is_given_up(server) -> None:
    server.down = True
    texts = [f"text {i}" for i in range(4 * GIVE_UP_AFTER)]
    with pytest.raises(JobError, match="in a row got no score") as caught:
        scorer_of(server, retries=0).score(items_of(*texts))
    assert "answered 503: loading" in caught.value.message
    assert len(server.arrivals) < 2 * GIVE_UP_AFTER
    refused = scorer_of(server, url="http://127.0.0.1:9", retries=0)
    with pytest.raises(JobError, match="no connection"):
        refused.score(items_of(*texts))


def test_scores_before_the_end_of_a_server_are_kept(server, tmp_path, monkeypatch) -> None:
    """A block whose server dies halfway is saved; the run then says why it ends, and the next one goes on."""
    monkeypatch.setattr("workers.jobs.score.BLOCK", 40)
    local = LocalRun(tmp_path, make_pairs(50))
    local.checkpoints["e"] = CheckpointRef("e", "endpoint", config_of(server, retries=0, concurrency=2), None)
    dies = 60
    answer = server.answer

    async def dying(*given):
        server.down = dies < len(server.arrivals) <= dies + 10 * GIVE_UP_AFTER
        return await answer(*given)

    server.answer = dying
    ctx = local.context()
    with pytest.raises(JobError, match="in a row got no score"):
        local.run("score", ctx, checkpoint="e")
    assert 50 <= len(ctx.scores["e"]) <= dies
    dies = 10**9
    found = local.run("score", ctx, checkpoint="e")
    assert len(ctx.scores["e"]) == 100
    assert found["n_unscored"] == 0


def test_through_the_jobs(server, tmp_path) -> None:
    local = LocalRun(tmp_path, make_pairs(24))
    local.checkpoints["e"] = CheckpointRef("e", "endpoint", config_of(server, price_per_million_tokens=1.0), None)
    bad = local.pairs[0]
    bad.response_a[0]["content"] = "garbage here"
    ctx = local.context()
    found = local.run("evaluate", ctx, checkpoint="e")
    assert found["n_unscored"] == 1
    assert found["n_pairs"] == 23
    assert found["scoring"]["n_scored"] == 47
    assert found["scoring"]["scorer"]["errors"] == {"the answer is not JSON": 1}
    assert found["scoring"]["scorer"]["cost"] > 0
    assert any("not JSON" in line for _, line in ctx.logs)
    again = local.run("score", ctx, checkpoint="e")
    assert (again["n_scored"], again["n_unscored"], len(server.arrivals)) == (0, 1, 49)


def test_a_cancel_ends_what_is_on_its_way(server) -> None:
    def stop(_: int) -> None:
        raise JobCancelled

    started = time.monotonic()
    with pytest.raises(JobCancelled):
        scorer_of(server, timeout_s=30).score(items_of("slow one", "slow two"), on_batch=stop)
    assert time.monotonic() - started < 5


def test_a_sigmoid_is_suspected(server, monkeypatch) -> None:
    monkeypatch.setattr("tests.workers.endpoints.server.reward_of", lambda text: 0.5)
    scorer = scorer_of(server)
    scorer.score(items_of(*[f"text {i}" for i in range(25)]))
    assert "sigmoid" in scorer.report()["warning"]


PRIVATE = """
127.0.0.1 10.1.2.3 192.168.0.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1 255.255.255.255
::1 fe80::1%eth0 fd00::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1::
"""


@pytest.mark.parametrize("number", PRIVATE.split())
def test_private_addresses_are_told(number) -> None:
    assert is_private(number)


def test_public_addresses_are_told() -> None:
    assert not any(is_private(number) for number in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"))


def test_private_addresses_are_refused_unless_named() -> None:
    for url in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:80", "http://2130706433/", "http://127.1"):
        with pytest.raises(JobError, match="private address") as caught:
            resolve(url, {PRIVATE_HOSTS: "other:8000"})
        assert PRIVATE_HOSTS in caught.value.hint
    assert resolve("http://127.0.0.1:8000/x", {PRIVATE_HOSTS: "127.0.0.1:8000"}).url == "http://127.0.0.1:8000/x"
    with pytest.raises(JobError):
        resolve("http://127.0.0.1:8001", {PRIVATE_HOSTS: "127.0.0.1:8000"})
    found = resolve("http://localhost:81/x", {PRIVATE_HOSTS: "*"})
    assert (found.host_header, found.hostname) == ("localhost:81", "localhost")
    assert "localhost" not in found.url


@pytest.mark.parametrize(
    "given",
    [
        {"url": "ftp://x"},
        {"url": "http://"},
        {"url": "http://user:pass@x"},
        {"url": "http://x/?key=1"},
        {"url": "http://x:99999"},
        {"url": "http://x y"},
        {"url": "http://[::1"},
        {"api_key_env": "sk-12345"},
        {"api_key_env": "HOME"},
        {"kind": "custom_json"},
        {"kind": "custom_json", "template": {"p": "{prompt}"}},
        {"kind": "vllm_pooling", "score_path": "a"},
        {"kind": "custom_json", "template": {"p": "{response}"}, "score_path": "a..b"},
        {"concurrency": 0},
        {"price_per_million_tokens": -1},
    ],
)
def test_bad_configs(given) -> None:
    with pytest.raises(SpecError):
        parse_spec(FAMILIES.get("endpoint").Config, given)


def test_only_this_package_reaches_a_network() -> None:
    """Decision 092: the rest of workers/ computes from what it is given."""
    root = Path(__file__).resolve().parents[3] / "workers"
    names = r"httpx|httpcore|socket|requests|aiohttp|urllib\.request|http\.client"
    client = re.compile(rf"^\s*(?:import|from)\s+(?:{names})\b", re.M)
    found = {str(p.relative_to(root)) for p in root.rglob("*.py") if client.search(p.read_text())}
    others = {name for name in found if not name.startswith("endpoints/")}
    # tasks.py: Celery's entry points, which are no compute. hub.py: asks whether the models' own hub answers.
    assert others == {"tasks.py", "nn/hub.py"}
