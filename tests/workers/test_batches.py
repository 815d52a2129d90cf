"""Splits and length-ordered batches."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.data.collate import length_batches
from workers.data.schema import prompt_key
from workers.data.split import split_by_prompt

LENGTHS = st.lists(st.integers(1, 600), max_size=60)


@given(lengths=LENGTHS, budget=st.integers(1, 2048), is_padded=st.booleans())
def test_every_index_once_under_the_budget_in_falling_order(lengths, budget, is_padded) -> None:
    batches = list(length_batches(lengths, budget, is_padded=is_padded))
    flat = [int(i) for batch in batches for i in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    for batch in batches:
        sizes = [lengths[i] for i in batch]
        cost = max(sizes) * len(sizes) if is_padded else sum(sizes)
        assert cost <= budget or len(batch) == 1


@given(keys=st.lists(st.sampled_from("abcdefghij"), max_size=60), share=st.floats(0, 0.9), seed=st.integers(0, 5))
def test_no_prompt_is_on_both_sides(keys, share, seed) -> None:
    train, held_out = split_by_prompt(keys, validation_share=share, seed=seed)
    assert sorted([*train, *held_out]) == list(range(len(keys)))
    assert not {keys[i] for i in train} & {keys[i] for i in held_out}
    if keys:
        assert len(train)
    if share > 0 and len(set(keys)) > 1:
        assert len(held_out)


def test_the_share_is_kept_and_order_does_not_matter() -> None:
    keys = [f"prompt {i}" for i in range(4000)]
    _, held_out = split_by_prompt(keys, validation_share=0.1, seed=3)
    assert 330 < len(held_out) < 470
    turned = list(reversed(keys))
    _, again = split_by_prompt(turned, validation_share=0.1, seed=3)
    assert {keys[i] for i in held_out} == {turned[i] for i in again}
    _, other = split_by_prompt(keys, validation_share=0.1, seed=4)
    assert set(held_out.tolist()) != set(other.tolist())


def test_no_validation_asked_none_given() -> None:
    train, held_out = split_by_prompt(["a", "b"], validation_share=0.0, seed=0)
    assert train.tolist() == [0, 1]
    assert held_out.dtype == np.int64
    assert not len(held_out)


def test_prompt_key_tells_turns_apart() -> None:
    one = prompt_key([{"role": "user", "content": "ab"}])
    assert one == prompt_key([{"role": "user", "content": "ab"}])
    assert one != prompt_key([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    assert one != prompt_key([{"role": "system", "content": "ab"}])
