"""From messages to ids: one rendering, nothing cut silently."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.making import turn
from workers.data.render import Renderer
from workers.errors import JobError
from workers.nn.tiny import TINY_NAMES, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PROMPT = [turn("system", "Be kind."), turn("user", "Hello?"), turn("assistant", "Hi."), turn("user", "More?")]
RESPONSE = [turn("assistant", "Yes, more.")]


def decoded(renderer: Renderer, prompt=PROMPT, response=RESPONSE) -> str:
    return renderer.tokenizer.decode(renderer.encode([(prompt, response)])[0].ids)


def test_plain_rendering_labels_every_turn() -> None:
    text = decoded(Renderer(tiny_tokenizer("tiny-causal"), 256))
    assert text == (
        "system:\nBe kind.\n\nuser:\nHello?\n\nassistant:\nHi.\n\nuser:\nMore?\n\nassistant:\nYes, more.[SEP]"
    )


def test_an_encoder_gets_its_special_tokens_and_a_separator() -> None:
    text = decoded(Renderer(tiny_tokenizer("tiny-encoder"), 256))
    assert text.startswith("[CLS]system:")
    assert text.endswith("assistant:\n[SEP]Yes, more.[SEP]")


@pytest.mark.parametrize("kind", TINY_NAMES)
def test_a_chat_template_is_used_where_there_is_one(kind) -> None:
    tokenizer = tiny_tokenizer(kind)
    tokenizer.chat_template = TEMPLATE
    text = decoded(Renderer(tokenizer, 256))
    assert text == ("<system>Be kind.</s><user>Hello?</s><assistant>Hi.</s><user>More?</s><assistant>Yes, more.</s>")
    assert decoded(Renderer(tokenizer, 256, "plain")).startswith(("system:", "[CLS]system:"))


def test_a_template_that_refuses_is_named() -> None:
    tokenizer = tiny_tokenizer("tiny-causal")
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(JobError, match="no system role here") as caught:
        Renderer(tokenizer, 256).encode([(PROMPT, RESPONSE)])
    assert "plain" in caught.value.hint
    with pytest.raises(JobError, match="has no chat template"):
        Renderer(tiny_tokenizer("tiny-causal"), 256, "chat_template")


def test_a_template_that_writes_nothing_is_named() -> None:
    tokenizer = tiny_tokenizer("tiny-causal")
    tokenizer.chat_template = "{{ nothing }}"
    with pytest.raises(JobError, match="writes nothing at all"):
        Renderer(tokenizer, 64).encode([(PROMPT, RESPONSE)])


def test_a_special_token_in_a_text_is_only_text() -> None:
    renderer = Renderer(tiny_tokenizer("tiny-encoder"), 256)
    ids = renderer.encode([([turn("user", "[SEP] [CLS] [PAD]")], RESPONSE)])[0].ids.tolist()
    assert (ids.count(1), ids.count(2), ids.count(0)) == (1, 2, 0)


@pytest.mark.parametrize("kind", TINY_NAMES)
@given(n_prompt=st.integers(0, 80), n_response=st.integers(1, 80), limit=st.integers(16, 64))
@settings(max_examples=40, deadline=None)
def test_the_prompt_is_cut_and_never_the_response(kind, n_prompt, n_response, limit) -> None:
    renderer = Renderer(tiny_tokenizer(kind), limit)
    prompt = [turn("user", "old " + "x" * n_prompt + " new")]
    item = renderer.encode([(prompt, [turn("assistant", "r" * n_response)])])[0]
    specials = len(renderer.start) + len(renderer.between) + len(renderer.end)
    r = renderer.tokenizer.convert_tokens_to_ids("r")
    assert len(item) <= limit
    assert (item.ids == r).sum() >= min(n_response, limit - specials)
    assert item.n_response_dropped == max(0, n_response - (limit - specials))
    if item.n_response_dropped == 0 and item.n_prompt_dropped:
        assert len(item) == limit
    if item.n_response_dropped == 0:
        assert item.ids[-item.n_response :].tolist() == [r] * n_response + list(renderer.end)


def test_the_last_turns_are_kept() -> None:
    renderer = Renderer(tiny_tokenizer("tiny-causal"), 48)
    text = decoded(renderer)
    assert text.endswith("user:\nMore?\n\nassistant:\nYes, more.[SEP]")
    assert "Be kind" not in text


def test_one_item_alone_and_in_a_batch_is_the_same() -> None:
    renderer = Renderer(tiny_tokenizer("tiny-encoder"), 64)
    items = [([turn("user", "q" * n)], [turn("assistant", "r" * (n % 7))]) for n in range(12)]
    together = renderer.encode(items)
    for item, alone in zip(items, together, strict=True):
        assert renderer.encode([item])[0].ids.tolist() == alone.ids.tolist()


def test_odd_texts_are_encoded_byte_for_byte() -> None:
    renderer = Renderer(tiny_tokenizer("tiny-causal"), 256)
    for text in ("", " ", "\n\n", "مرحبا", "日本語", "👩‍👩‍👧", "tab\there"):
        assert decoded(renderer, [], [turn("assistant", text)]) == f"assistant:\n{text}[SEP]"


def test_fingerprint_follows_what_changes_ids() -> None:
    tokenizer = tiny_tokenizer("tiny-causal")
    plain = Renderer(tokenizer, 64).fingerprint
    assert plain == Renderer(tiny_tokenizer("tiny-causal"), 64).fingerprint
    assert plain != Renderer(tokenizer, 65).fingerprint
    tokenizer.chat_template = TEMPLATE
    assert plain != Renderer(tokenizer, 64).fingerprint
