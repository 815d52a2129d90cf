"""Cutting a snapshot and exporting it over HTTP: pairs a second, time to first byte, memory of the web process.

    python -m bench.bench_export [N_PAIRS | --full]

An own PostgreSQL with its durable settings and one real web process. Prints one JSON line a measurement. The first byte
must come long before the last, and the web process must not grow with the number of pairs: both are checked.
"""

import json
import resource
import sys
import time
from http.client import HTTPConnection
from typing import Any

from bench.queue_site import Site, site

PORT = 8767
FULL, SMALL = 1_000_000, 100_000
#: Responses of 130 to 560 characters; every judgement has an assignment, as a real one does.
FILL = """
    INSERT INTO annotator_example (uid, dataset_id, position, prompt, meta, content_hash, prompt_hash)
    SELECT gen_random_uuid(), %(dataset)s, g,
           jsonb_build_array(jsonb_build_object('role', 'user', 'content',
           'Question ' || g || ': ' || repeat(md5(g::text) || ' ', 3))), '{"subset": "s1"}',
           decode(md5(g::text), 'hex'), decode(md5(g::text), 'hex') FROM generate_series(1, %(n)s) g;
    INSERT INTO annotator_response (uid, example_id, number, messages, source_model, meta)
    SELECT gen_random_uuid(), e.id, k, jsonb_build_array(jsonb_build_object('role', 'assistant', 'content',
           repeat(md5((e.id * 2 + k)::text) || ' ', (4 + (e.id + k) %% 14)::int))), 'model-' || k, '{}'
    FROM annotator_example e CROSS JOIN generate_series(0, 1) k;
    INSERT INTO annotator_item (uid, created_at, queue_id, example_id, response_a_id, response_b_id, is_gold)
    SELECT gen_random_uuid(), now(), %(queue)s, a.example_id, a.id, b.id, false
    FROM annotator_response a JOIN annotator_response b ON b.example_id = a.example_id AND b.number = 1
    WHERE a.number = 0;
    INSERT INTO annotator_assignment (uid, created_at, queue_id, item_id, rater_id, state, lease_token, a_is_left, seed,
           form_version_id, guidelines_version_id, draft, draft_version, shown, active_s)
    SELECT gen_random_uuid(), now(), %(queue)s, i.id, %(rater)s, 'submitted', gen_random_uuid(), i.id %% 2 = 0, 1,
           %(form)s, %(guidelines)s, '{}', 0, '{}', 12.5 FROM annotator_item i;
    INSERT INTO annotator_judgement (uid, created_at, queue_id, item_id, rater_id, assignment_id, version, is_current,
           is_surplus, verdict, preference_strength, answers, active_s, idempotency_key, form_version_id,
           guidelines_version_id)
    SELECT gen_random_uuid(), now(), %(queue)s, t.item_id, t.rater_id, t.id, 1, true, false,
           (ARRAY['a', 'b'])[1 + t.id %% 2], 2, jsonb_build_object('preference', jsonb_build_object('verdict', 'a',
           'justification', 'The first one answers the question.', 'reasons', jsonb_build_array('correct'))), 12.5,
           t.id::text, t.form_version_id, t.guidelines_version_id FROM annotator_assignment t;
    ANALYZE;
"""


def say(what: str, **facts: Any) -> None:
    print(json.dumps({"bench": "export", "what": what, **facts}), flush=True)


def fill(n: int) -> Any:
    """A queue whose every item is judged once. Rows are made inside the database: it is not what is measured."""
    from django.db import connection

    from tests.factories import QueueFactory, RaterFactory, member

    queue = QueueFactory(n_items=n)
    facts = {
        "n": n,
        "dataset": queue.dataset_id,
        "queue": queue.pk,
        "rater": RaterFactory(user=member(queue.project)).pk,
        "form": queue.form_versions.get().pk,
        "guidelines": queue.guidelines_versions.get().pk,
    }
    with connection.cursor() as cursor:
        for statement in FILL.split(";\n"):
            if statement.strip():
                cursor.execute(statement, facts)
    return queue


def score(dataset: Any) -> Any:
    """A checkpoint that has scored every response."""
    from django.db import connection

    from tests.factories import CheckpointFactory

    checkpoint = CheckpointFactory(reward_model__project=dataset.project)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rmeval_score (checkpoint_id, response_id, extra, value) "
            "SELECT %s, r.id, '', random() FROM annotator_response r ORDER BY r.id",
            [checkpoint.pk],
        )
        cursor.execute("ANALYZE rmeval_score")
    return checkpoint


def cut(queue: Any) -> Any:
    from django.utils import timezone

    from annotator.services.snapshots import snapshot_cut

    began, cpu = time.perf_counter(), time.process_time()
    snapshot = snapshot_cut(queue=queue, created_by=None, now=timezone.now())
    took_s = time.perf_counter() - began
    cpu_s = round(time.process_time() - cpu, 1)
    rate = round(snapshot.n_rows / took_s)
    say("cut", n=snapshot.n_rows, took_s=round(took_s, 1), rows_per_s=rate, own_cpu_s=cpu_s, peak_rss_mib=peak_mib())
    return snapshot


def download(running: Site, path: str, token: str) -> dict[str, float]:
    """Read a file from the site without keeping it; watch the web process meanwhile."""
    connection = HTTPConnection("127.0.0.1", running.port, timeout=600)
    before, cpu = rss_mib(running), running.web_cpu_s()
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Token {token}"})
    response = connection.getresponse()
    assert response.status == 200, response.read(500)
    first_s, n_bytes, most = 0.0, 0, before
    while block := response.read1(1024 * 1024):
        first_s = first_s or time.perf_counter() - began
        n_bytes += len(block)
        most = max(most, rss_mib(running))
    return {
        "took_s": time.perf_counter() - began,
        "web_cpu_s": running.web_cpu_s() - cpu,
        "first_s": first_s,
        "mib": n_bytes / 2**20,
        "grew_mib": most - before,
    }


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def rss_mib(running: Site) -> float:
    return float(running.web.memory_info().rss / 2**20)


def main(arguments: list[str]) -> None:
    n = FULL if "--full" in arguments else next((int(a) for a in arguments if a.isdigit()), SMALL)
    with site(PORT) as running:
        from annotator.services.accounts import token_create

        queue = fill(n)
        snapshot = cut(queue)
        _, token = token_create(user=queue.project.memberships.first().user, name="bench")
        scores = f"/api/v1/checkpoints/{score(queue.dataset).uid}/scores/"
        base = f"/api/v1/snapshots/{snapshot.uid}/export/"
        download(running, f"{base}?format=trl-preference", token)  # imports and first connections are not measured
        for what, path in (
            ("trl-preference jsonl", f"{base}?format=trl-preference"),
            ("trl-conversational jsonl", f"{base}?format=trl-conversational"),
            ("raw jsonl", f"{base}?format=raw"),
            ("raw parquet", f"{base}?format=raw&file=parquet"),
            ("scores jsonl, two a pair", scores),
            ("scores parquet with texts, two a pair", f"{scores}?dataset={queue.dataset.uid}&texts=1&file=parquet"),
        ):
            found = download(running, path, token)
            rate = round(n / found["took_s"])
            say(what, n=n, pairs_per_s=rate, **{name: round(value, 2) for name, value in found.items()})
            assert found["first_s"] < 2, "the first byte waits for the rest"
            assert found["grew_mib"] < 200, "memory grows with the export"


if __name__ == "__main__":
    main(sys.argv[1:])
