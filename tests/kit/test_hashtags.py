import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.kit.hashtags import Hashtag, extract_hashtags, tag_key


@pytest.fixture(scope="module")
def conformance(shared: Path) -> dict[str, list[dict[str, Any]]]:
    text = (shared / "hashtags/conformance/extract.yml").read_text(encoding="utf-8")
    tests: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)["tests"]
    return tests


def tags(text: str) -> list[str]:
    return [hashtag.tag for hashtag in extract_hashtags(text)]


class TestTwitterTextConformance:
    @pytest.mark.parametrize(("section", "cases"), [("hashtags", 65), ("hashtags_from_astral", 3)])
    def test_tags(self, conformance, section, cases):
        found = {case["description"]: tags(case["text"]) for case in conformance[section]}
        assert found == {case["description"]: case["expected"] for case in conformance[section]}
        assert len(conformance[section]) == cases

    def test_indices(self, conformance):
        section = conformance["hashtags_with_indices"]
        for case in section:
            expected = [Hashtag(tag["hashtag"], *tag["indices"]) for tag in case["expected"]]
            assert extract_hashtags(case["text"]) == expected, case["description"]
        assert len(section) == 8


class TestWhereATagBegins:
    def test_a_text_without_a_sign_has_none(self):
        assert extract_hashtags("save 5 today") == []
        assert extract_hashtags("") == []

    def test_at_the_start_and_after_space_and_punctuation(self):
        assert tags("#a (#b) “#c” .#d") == ["a", "b", "c", "d"]

    def test_not_inside_a_word(self):
        assert tags("save#now été#now 日本#now 1#now a_#now") == []

    def test_not_after_an_ampersand(self):
        assert tags("&#x201c and &#tag") == []

    def test_after_an_emoji_with_its_variation_selector(self):
        assert tags("\u2714\ufe0f#done") == ["done"]

    def test_a_keycap_is_not_a_sign(self):
        assert tags("#\ufe0f\u20e3tag #\u20e3tag") == []

    def test_the_last_of_several_signs_counts(self):
        assert extract_hashtags("##tag") == [Hashtag("tag", 1, 5)]

    def test_the_fullwidth_sign(self):
        assert extract_hashtags("得\uff01\uff03割引") == [Hashtag("割引", 2, 5)]

    def test_indices_are_code_points_and_point_at_the_sign(self):
        text = "\U0001f600 &amp; #save\U00020021!"
        (hashtag,) = extract_hashtags(text)
        assert text[hashtag.start : hashtag.end] == "#save\U00020021"


class TestWhereATagEnds:
    def test_at_punctuation_and_space(self):
        assert tags("#save-now #5off! #a.b") == ["save", "5off", "a"]

    def test_a_sign_or_a_protocol_right_after_forbids_it(self):
        assert tags("#one#two #three\ufe0f#four #http://shop.example") == []

    def test_digits_and_joiners_alone_are_no_tag(self):
        assert tags("#2026 #_ #1_2 #\u200d #\u0661") == []

    def test_marks_belong_to_a_tag(self):
        assert tags("#cafe\u0301 #ab\U000e0100") == ["cafe\u0301", "ab\U000e0100"]

    def test_letters_of_every_plane_that_has_any(self):
        letters = ["\u00e9", "\uffdc", "\U0001e922", "\U0002a6df", "\U0003134a"]
        assert tags(" ".join(f"#{letter}" for letter in letters)) == letters

    def test_fractions_roman_numerals_and_symbols_end_it(self):
        assert tags("#a\u00bd #b\u2167 #c\u20ac #d\U0001f600") == ["a", "b", "c", "d"]


class TestLinks:
    @pytest.mark.parametrize(
        "link",
        [
            "http://shop.example/#tag",
            "https://shop.example/a(b)#tag",
            "https://shop.example/?q=#tag",
            "https://shop.example:8080/a,#tag",
            "https://\u0645\u062a\u062c\u0631.\u0645\u0635\u0631/#tag",
            "shop.example/a/#tag",
        ],
    )
    def test_a_sign_inside_a_link_makes_no_tag(self, link):
        assert tags(f"{link} and #after") == ["after"]

    def test_a_short_link_ends_with_its_slug(self):
        assert tags("https://t.co/Ab12,#tag") == ["tag"]

    def test_a_slash_that_is_in_no_link_changes_nothing(self):
        assert tags("and/or/#tag ?#other") == ["tag", "other"]

    def test_a_link_keeps_the_indices_of_what_follows(self):
        assert extract_hashtags("http://a.example/# #b") == [Hashtag("b", 19, 21)]


class TestHostileText:
    @pytest.mark.parametrize(
        ("unit", "times", "ending"),
        [
            ("#", 100_000, ""),
            ("a", 100_000, "#"),
            ("#1", 50_000, ""),
            ("1", 100_000, "#"),
            ("#a ", 50_000, ""),
            ("/#", 50_000, "a"),
            ("a.", 50_000, "/#a"),
            ("a\u00e9", 50_000, "/#a"),
            ("http://", 20_000, "/#a"),
            ("http://a.bc/(", 10_000, "#a"),
            ("a.bc/,", 20_000, "/#a"),
            ("x@", 50_000, "/#a"),
        ],
    )
    def test_long_repetition_ends(self, unit, times, ending):
        text = unit * times + ending
        assert len(extract_hashtags(text)) <= times

    @given(st.text(st.sampled_from("#\uff03aZ9_ &/.:?()\u00e9\u65e5\u200d\ufe0f\u20e3\U0001f600")))
    def test_every_tag_stands_in_the_text_after_a_sign(self, text):
        for found in extract_hashtags(text):
            assert text[found.start] in "#\uff03"
            assert text[found.start + 1 : found.end] == found.tag
            assert any(unicodedata.category(character)[0] in "LM" for character in found.tag)


class TestTagKey:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("SaveNow", "savenow"),
            ("\uff33\uff41\uff56\uff45", "save"),
            ("stra\u00dfe", "STRASSE"),
            ("cafe\u0301", "CAF\u00c9"),
            ("\uff76\uff9e\uff70\uff84\uff9e", "\u30ac\u30fc\u30c9"),
            ("\u03a3\u03b1\u03c2", "\u03c3\u03b1\u03c3"),
        ],
    )
    def test_spellings_of_one_tag_share_a_key(self, one, other):
        assert tag_key(one) == tag_key(other)

    def test_different_tags_do_not(self):
        assert len({tag_key(tag) for tag in ("cafe", "caf\u00e9", "save", "saves", "\u0131")}) == 5

    def test_it_is_nfkc_and_casefold(self):
        for tag in ("SaveNow", "\uff21\u00df", "\u00c9t\u00e9", "\u30ac", "\u017f\u212a"):
            assert tag_key(tag) == unicodedata.normalize("NFKC", tag).casefold()

    @given(st.text())
    def test_the_key_of_a_key_is_itself(self, tag):
        assert tag_key(tag_key(tag)) == tag_key(tag)

    def test_so_it_is_for_every_character_before_and_after_marks_that_reorder(self):
        for code in range(0x20000):
            for tag in (chr(code), f"{chr(code)}\u0345\u0301", f"\u0345{chr(code)}"):
                assert tag_key(tag_key(tag)) == tag_key(tag), ascii(tag)

    @given(st.text())
    def test_composed_and_decomposed_are_one(self, tag):
        assert tag_key(unicodedata.normalize("NFD", tag)) == tag_key(tag)
        assert tag_key(unicodedata.normalize("NFC", tag)) == tag_key(tag)
