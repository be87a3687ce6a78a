from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.kit.weighted_length import LINK_WEIGHT, WEIGHTED_LENGTH_MAX, weighted_length


class TestTwitterTextConformance:
    @pytest.mark.parametrize(
        ("section", "cases"),
        [
            ("WeightedTweetsWithDiscountedEmojiCounterTest", 22),
            ("UnicodeDirectionalMarkerCounterTest", 2),
        ],
    )
    def test_configuration_3(self, shared: Path, section, cases):
        text = (shared / "hashtags/conformance/validate.yml").read_text(encoding="utf-8")
        suite = yaml.safe_load(text)["tests"][section]
        assert {case["description"]: weighted_length(case["text"]) for case in suite} == {
            case["description"]: case["expected"]["weightedLength"] for case in suite
        }
        assert len(suite) == cases


class TestWeightedLength:
    @pytest.mark.parametrize(
        ("text", "weight"),
        [
            ("", 0),
            ("Coupon loaded: 20% off", 22),
            ("Réduction chargée", 17),
            ("“quoted” \u2013 ok…", 15),  # of these only the ellipsis is heavy
            ("クーポン", 8),
            ("cafe\u0301", 4),
            ("\U0001f44d", 2),
            ("\U0001f44d\U0001f3fd", 2),
            ("\U0001f468\u200d\U0001f469\u200d\U0001f467", 2),
            ("\U0001f1eb\U0001f1f7", 2),
            ("1\ufe0f\u20e3", 2),
            ("\u00a9", 1),
        ],
    )
    def test_characters(self, text, weight):
        assert weighted_length(text) == weight

    @pytest.mark.parametrize("link", ["https://shop.example/a-very-long-path?x=1", "shop.example"])
    def test_a_link_counts_23_however_long(self, link):
        assert weighted_length(f"See {link}") == 4 + LINK_WEIGHT

    def test_the_full_stop_after_a_link_is_not_part_of_it(self):
        assert weighted_length("See https://shop.example/a.") == 4 + LINK_WEIGHT + 1

    def test_a_host_that_dns_forbids_is_no_link(self):
        text = f"https://{'a' * 64}.com"
        assert weighted_length(text) == len(text)

    def test_280_light_characters_are_the_limit(self):
        assert weighted_length("a" * 280) == WEIGHTED_LENGTH_MAX

    @given(st.text())
    def test_any_text_has_a_weight(self, text):
        assert weighted_length(text) >= 0

    @given(st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20)), st.text("abc"))
    def test_text_without_links_weighs_its_parts(self, start, end):
        assert weighted_length(f"{start.replace('.', '')} {end}") == (
            weighted_length(start.replace(".", "")) + 1 + len(end)
        )

    @pytest.mark.parametrize("unit", ["a.", "https://a.bc/,", "\U0001f468\u200d", "1\ufe0f", "é."])
    def test_long_repetition_ends(self, unit):
        assert weighted_length(unit * 20_000) > 0
