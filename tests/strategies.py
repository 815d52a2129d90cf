"""Hypothesis strategies for texts and conversations as the wild sends them."""

from hypothesis import strategies as st

AWKWARD = [
    "",
    " ",
    "\n",
    "مرحبا بالعالم",
    "你好，世界",
    "👩‍👩‍👧‍👦 emoji",
    "e\u0301",
    "\u202eright to left",
    "<b>&amp;</b>",
    "'; DROP TABLE x;--",
]

#: Any text PostgreSQL can store: no NUL, no lone surrogates.
texts = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=80),
)
non_empty_texts = texts.filter(lambda text: bool(text.strip()))
verdicts = st.sampled_from(["a", "b", "tie", "both_bad"])
strengths = st.one_of(st.none(), st.integers(1, 3))


def messages(last_role: str = "user", max_turns: int = 3) -> st.SearchStrategy[list[dict[str, str]]]:
    """Alternating turns that end with `last_role`."""

    def build(contents: list[str]) -> list[dict[str, str]]:
        other = "assistant" if last_role == "user" else "user"
        roles = [last_role if (len(contents) - index) % 2 else other for index in range(len(contents))]
        return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]

    return st.lists(non_empty_texts, min_size=1, max_size=2 * max_turns - 1).map(build)


prompts = messages("user")
responses = non_empty_texts.map(lambda text: [{"role": "assistant", "content": text}])

#: Judgements of items by raters: item -> rater -> verdict (None: cannot judge).
judgement_tables = st.dictionaries(
    st.integers(0, 20), st.dictionaries(st.integers(0, 6), st.one_of(st.none(), verdicts), max_size=5), max_size=15
)
