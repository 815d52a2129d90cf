"""Prepared statements: one transaction a round trip, Django's errors, and queries that tests can count."""

import pytest
from django.db import IntegrityError, connection, transaction

from annotator.models import Project, User
from annotator.statements import row_of

ADD = "INSERT INTO annotator_loginfailure (key, n_failed, last_at) VALUES (%(key)s, 1, now()) RETURNING key"
COUNT = "SELECT count(*) FROM annotator_loginfailure WHERE key = %(key)s"


@pytest.mark.django_db(transaction=True)
def test_what_is_sent_together_stays_or_goes_together() -> None:
    assert row_of(ADD, COUNT, key="first") == (1,)  # the second statement sees the first
    with pytest.raises(IntegrityError):
        row_of("SELECT pg_advisory_xact_lock(1)", ADD.replace("%(key)s", "'other'"), ADD, key="first")
    assert row_of(COUNT, key="other") == (0,)
    assert row_of("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == (0,)


@pytest.mark.django_db(transaction=True)
def test_a_transaction_around_it_decides() -> None:
    with transaction.atomic():
        row_of(ADD, COUNT, key="undone")
        transaction.set_rollback(True)
    assert row_of(COUNT, key="undone") == (0,)
    with transaction.atomic():
        with pytest.raises(IntegrityError):
            row_of("SELECT 1", "INSERT INTO annotator_loginfailure (key) VALUES (NULL)")
        transaction.set_rollback(True)
    assert row_of(COUNT, key="undone") == (0,)


@pytest.mark.django_db
def test_statements_are_planned_once_and_what_the_orm_sends_is_not_prepared() -> None:
    for number in range(8):
        row_of(COUNT, key=str(number))
        User.objects.filter(username="x").exists()
        Project.objects.filter(name=str(number)).exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        prepared = [statement for (statement,) in cursor.fetchall()]
    assert [statement.count("annotator_loginfailure") for statement in prepared if "loginfailure" in statement] == [1]
    assert not [statement for statement in prepared if "annotator_user" in statement or "project" in statement]


@pytest.mark.django_db
def test_statements_are_counted(django_assert_num_queries) -> None:
    with django_assert_num_queries(2):
        row_of("SELECT 1", COUNT, key="k")
