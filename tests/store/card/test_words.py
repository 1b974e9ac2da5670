"""What of a README is ours and what is of people, whatever they did to it."""

from __future__ import annotations

import pytest

from r2t.store.card.words import marked_readme, readme_to_send, with_kept_words
from r2t.store.errors import StoreError

OURS = marked_readme({"license": "mit"}, "# Toys", "made by r2t store card")
MARKED = OURS.split("---\n\n")[1]


@pytest.mark.parametrize(
    "there",
    [
        "\ufeff---\nlicense: gpl-3.0\n---\nmine",
        "\n---\nlicense: gpl-3.0\n---\nmine",
        "--- \nlicense: gpl-3.0\n---\t\nmine",
        "---\r\nlicense: gpl-3.0\r\n---\r\nmine",
        "---\rlicense: gpl-3.0\r---\rmine",
        '---\n"license": gpl-3.0\n---\nmine',
    ],
)
def test_a_licence_that_people_state_is_seen_in_any_front_matter(there: str) -> None:
    with pytest.raises(StoreError, match=r"states the licence gpl-3\.0"):
        with_kept_words(OURS, there.encode(), "README.md")


def test_lines_across_a_page_are_no_front_matter() -> None:
    text = with_kept_words(OURS, b"---\n\nFilmed in Graz.\n\n---\n", "README.md")
    assert text.startswith('---\nlicense: "mit"\n---\n\n---\n\nFilmed in Graz.\n\n---\n\n<!-- ')


@pytest.mark.parametrize(
    "there",
    [
        f"{OURS}\nmine\n\n{MARKED}",
        OURS.partition("<!-- end")[0],
        f"{OURS}\n<!-- end{MARKED.partition('<!-- end')[2]}",
        MARKED.partition("# Toys")[0] * 3000,  # each of which may have an end, as far as one knows
    ],
)
def test_marks_that_are_no_pair_are_left_to_people(there: str) -> None:
    with pytest.raises(StoreError, match="a mark of r2t lacks its other one, or there is more"):
        with_kept_words(OURS, there.encode(), "README.md")


def test_code_at_the_beginning_of_words_stays_code() -> None:
    there = f"    first\n    second\n\n{MARKED}\n \n    third\n"
    text = with_kept_words(OURS, there.encode(), "README.md")
    assert "\n    first\n    second\n\n<!-- " in text
    assert text.endswith(" -->\n\n    third\n")
    assert with_kept_words(OURS, text.encode(), "README.md") == text


def test_a_copy_without_words_takes_none_away() -> None:
    there = with_kept_words(OURS, b"Filmed in Graz.", "there").encode()
    new = marked_readme({"license": "mit"}, "# More toys", "made by r2t store card")
    sent = readme_to_send(new.encode(), there, "there", "here")
    assert sent.index(b"Filmed in Graz.") < sent.index(b"# More toys")
    edited = there.replace(b"Graz", b"Linz")
    whole = with_kept_words(OURS, edited, "here").encode()
    assert readme_to_send(whole, sent, "there", "here") == whole  # whose words they are may edit
