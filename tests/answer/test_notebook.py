from __future__ import annotations

from dataclasses import replace

import nda_index as nda
from nda_index.answer.notebook import CHARACTERS, show_table


def test_every_text_is_escaped_and_short() -> None:
    shown = show_table("<script>", ("<a>",), [("<b>" * 100, 7)])
    assert "<script>" not in shown and "<a>" not in shown and "<b>" not in shown
    assert "<td>7</td>" in shown
    assert shown.count("&lt;b&gt;") <= CHARACTERS // 3 and "…" in shown


def test_a_notebook_shows_the_best_images_of_an_answer(answer: nda.Attribution) -> None:
    shown = replace(answer, keys=("<img src=x>", *answer.keys[1:]))._repr_html_()
    assert "<img" not in shown and "&lt;img src=x&gt;" in shown
    assert shown.count("<tr>") == 1 + min(len(answer), 10)
