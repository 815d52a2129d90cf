"""Text of models and people is untrusted: nothing in it may run, fetch or break out of its box."""

from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from annotator.rendering import render_markdown
from annotator.templatetags.steelyard import ago, is_blank, plain

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "![pixel](https://tracker.example/p.gif)",
    '<a href="https://x.example" onclick="alert(1)">x</a>',
    "<iframe src=https://x.example></iframe>",
    "<svg/onload=alert(1)>",
    "`<b onmouseover=alert(1)>`",
    "<style>body{display:none}</style>",
    '"><form action=//x.example><input name=csrf>',
    "[x](https://ok.example 'title\" onmouseover=\"alert(1)')",
]
#: what a browser would act on; escaped text such as &lt;script&gt; is harmless
LIVE = ["<script", "<img", "<iframe", "<svg", "<style", "<form", "<input", 'href="javascript', 'href="data:']


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_in_a_response_can_run(text: str) -> None:
    html = render_markdown(text)
    assert not [part for part in LIVE if part in html.lower()]
    tags = [part.split(">")[0] for part in html.split("<")[1:]]
    assert not [tag for tag in tags if " on" in tag.replace("&quot;", "") and "title=" not in tag]


@given(st.text(max_size=200))
def test_any_text_renders(text: str) -> None:
    html = render_markdown(text)
    assert not [part for part in LIVE if part in html.lower()]


def test_markdown_people_expect_is_kept() -> None:
    html = render_markdown(
        "# Title\n\n- **one**\n- `two`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1 < 2\n```"
    )
    for part in ("<h1>Title</h1>", "<strong>one</strong>", "<code>two</code>", "<table>", "<td>1</td>", "x = 1 &lt; 2"):
        assert part in html


def test_line_breaks_and_raw_html_are_shown_as_written() -> None:
    assert "one<br>" in render_markdown("one\ntwo").replace("<br />", "<br>")
    assert "&lt;b&gt;bold&lt;/b&gt;" in render_markdown("<b>bold</b>")


def test_links_do_not_leak_the_page() -> None:
    html = render_markdown("[docs](https://docs.example)")
    assert 'rel="noopener noreferrer nofollow"' in html


def test_words_for_times_values_and_blanks() -> None:
    now = timezone.now()
    assert ago(now - timedelta(seconds=20)) == "just now"
    assert ago(now - timedelta(hours=3, minutes=1)).replace("\xa0", " ") == "3 hours, 1 minute ago"
    assert [plain(value) for value in ("it's", None, {"a": [True]})] == ["it's", "null", '{"a": [true]}']
    assert [is_blank(text) for text in (None, "", " \n\t", "0")] == [True, True, True, False]
