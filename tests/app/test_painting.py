from app.ui.painting import painted, signed, strongest_words, to_html, to_plain
from kdaif.words import Word

TEXTS = ["A <b>witty</b> film, though dull.", "Not read at all"]
WORDS = (
    Word(0, 0, 1, (1,)),
    Word(0, 5, 10, (2, 3)),
    Word(0, 15, 19, (4,)),
    Word(0, 28, 32, (5,)),
    Word(1, 0, 3, (7,)),
)
VALUES = (0.01, 2.0, -0.5, -1.0, 0.5)


def test_spans_give_the_sentences_back_letter_by_letter():
    sentences = painted(TEXTS, WORDS, VALUES)
    assert ["".join(span.text for span in spans) for spans in sentences] == TEXTS
    assert painted(["no word"], (), ()) == [[("no word", 0, "", "", True)]]


def test_colour_sign_and_depth_say_for_and_against():
    first, second = painted(TEXTS, WORDS, VALUES)
    by_text = {span.text: span for span in (*first, *second)}
    assert by_text["A"].color == ""
    assert by_text["A"].value == "+0.01"
    assert (by_text["witty"].sign, by_text["witty"].color) == (1, "rgba(0, 158, 115, 0.55)")
    assert (by_text["dull"].sign, by_text["dull"].color) == (-1, "rgba(213, 94, 0, 0.28)")
    assert by_text[" read at all"].cut
    assert not by_text[" <b>" if " <b>" in by_text else " "].cut


def test_html_holds_no_markup_of_the_sentence_and_tells_without_colour():
    html = to_html(painted(TEXTS, WORDS, VALUES), 'For "good"')
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert 'aria-label="For &quot;good&quot;"' in html
    assert html.count("<p>") == 2
    assert 'title="+2.00"' in html
    assert "2px solid" in html
    assert "2px dotted" in html
    assert "cut off" in html


def test_the_strongest_words_are_named_for_and_against():
    said = strongest_words(TEXTS, WORDS, VALUES)
    assert said == "for: **witty** +2.00, **Not** +0.50, **A** +0.01 · against: **dull** −1.00, **film** −0.50"
    assert strongest_words(["*a*"], (Word(0, 0, 3, (0,)),), (-1.0,)) == r"for: no word · against: **\*a\*** −1.00"


def test_the_gallery_gets_plain_spans():
    (spans,) = to_plain(painted(["dull"], (Word(0, 0, 4, (0,)),), (-1.0,)))
    assert spans == [{"text": "dull", "sign": -1, "color": "rgba(213, 94, 0, 0.55)", "value": "−1.00", "cut": False}]
    assert [signed(-0.001), signed(-2)] == ["+0.00", "−2.00"]
