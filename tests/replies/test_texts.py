import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.hashtags import extract_hashtags
from app.kit.ids import new_id
from app.kit.urls import URL
from app.kit.weighted_length import weighted_length
from app.replies.texts import OfferFacts, compose, kind_of, locale_for, reference, sentence

OUTCOMES = [
    "repost",
    "suspected_abuse",
    "opted_out",
    "too_many_offers",
    "not_started",
    "ended",
    "paused",
    "outside_hours",
    "not_linked",
    "card_inactive",
    "already_loaded",
    "not_eligible",
    "too_frequent",
    "sold_out",
    "budget_spent",
    "loaded",
]
LOCALES = ("en", "fr")
# twitter-text: what may stand before a sign that makes a mention or a share's name
MENTION = re.compile(r"(?:^|[^a-zA-Z0-9_!#$%&*@\uff20]|[rR][tT]:?)[@\uff20][a-zA-Z0-9_]")
CASHTAG = re.compile(r"(?:^|\s)\$[a-zA-Z]{1,6}(?:[._][a-zA-Z]{1,2})?(?=$|\s|[^\w\s])")

COFFEE = OfferFacts(
    title="Flat white Friday",
    partner="Corner Coffee",
    currency="USD",
    fixed_minor=None,
    basis_points=1_000,
    max_minor=2_000,
    min_spend_minor=1_500,
    channel="any",
    time_zone="America/New_York",
    starts_at=datetime(2026, 11, 1, 4, tzinfo=UTC),
    ends_at=datetime(2026, 12, 1, 5, tzinfo=UTC),
    valid_until=datetime(2026, 12, 6, 5, tzinfo=UTC),
)
HOSTILE = (
    "漢" * 200,
    "👨‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿" * 25,
    "https://evil.example/path?q=1 www.shop.com amazon.com " * 4,
    "#Free #money @someone $AAPL ##x #@y " * 6,
    "é" * 200,
    "a" * 200,
    "\n\t\x00\u202e\u200b" * 40,
    "{title} {0} %s " * 14,
    "İ" * 200,
)


def links_to_something(text: str) -> bool:
    return bool(
        URL.search(text) or extract_hashtags(text) or MENTION.search(text) or CASHTAG.search(text)
    )


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("outcome", OUTCOMES)
class TestEveryOutcome:
    def test_has_a_whole_sentence(self, outcome: str, locale: str) -> None:
        said = sentence(outcome, facts=COFFEE, locale=locale)
        assert said[0].isupper() or said[0] in "“«"
        assert said.endswith((".", "!"))
        assert "{" not in said

    def test_fits_unshortened_for_an_ordinary_offer(self, outcome: str, locale: str) -> None:
        text = compose(outcome, facts=COFFEE, locale=locale, reference="7K3Q9ZXM")
        assert text == sentence(outcome, facts=COFFEE, locale=locale) + " (7K3Q9ZXM)"
        assert weighted_length(text) <= 280

    @pytest.mark.parametrize("name", HOSTILE)
    def test_fits_and_links_nothing_whatever_the_offer_is_called(
        self, outcome: str, locale: str, name: str
    ) -> None:
        facts = COFFEE._replace(
            title=name,
            partner=name,
            currency="IRR",
            fixed_minor=10**12,
            basis_points=None,
            max_minor=None,
            min_spend_minor=10**12,
            starts_at=datetime(2024, 12, 31, 17, 30, tzinfo=UTC),
        )
        text = compose(outcome, facts=facts, locale=locale, reference="7K3Q9ZXM")
        assert weighted_length(text) <= 280
        assert text.endswith(" (7K3Q9ZXM)")
        assert not links_to_something(text)


@given(
    title=st.text(min_size=1, max_size=200),
    partner=st.text(min_size=1, max_size=200),
    outcome=st.sampled_from(OUTCOMES),
    locale=st.sampled_from(LOCALES),
)
def test_any_names_give_a_text_that_fits_and_links_nothing(
    title: str, partner: str, outcome: str, locale: str
) -> None:
    facts = COFFEE._replace(title=title, partner=partner)
    text = compose(outcome, facts=facts, locale=locale, reference="7K3Q9ZXM")
    assert weighted_length(text) <= 280
    assert not links_to_something(text)
    text.encode()  # a lone surrogate could not be sent


@given(
    name=st.lists(
        st.sampled_from([*"#\uff03@\uff20$.a1é· ", "RT", "com", "://"]),
        max_size=24,
    ).map("".join)
)
def test_no_mixture_of_signs_makes_a_link(name: str) -> None:
    facts = COFFEE._replace(title=name, partner=name)
    for outcome in ("loaded", "sold_out"):
        text = compose(outcome, facts=facts, locale="en", reference="7K3Q9ZXM")
        assert not links_to_something(text)


class TestWords:
    def test_a_confirmation_tells_what_where_and_until_when(self) -> None:
        assert sentence("loaded", facts=COFFEE, locale="en") == (
            "Done! 10% back (up to $20.00) at Corner Coffee is on your card. Pay with it by 5 Dec, "
            "in the shop or online, min. spend $15.00."
        )

    def test_french_has_its_own_amounts_dates_and_blanks(self) -> None:
        facts = COFFEE._replace(
            currency="EUR", basis_points=None, max_minor=None, fixed_minor=500, channel="in_store"
        )
        assert sentence("loaded", facts=facts, locale="fr") == (
            "C'est fait\u00a0! Sur votre carte\u00a0: 5,00\u00a0€ de remboursement chez Corner "
            "Coffee. Payez avec elle jusqu'au 5 décembre, en boutique, dès 15,00\u00a0€ d'achat."
        )

    def test_the_first_of_a_month_is_an_ordinal_in_french(self) -> None:
        facts = COFFEE._replace(starts_at=datetime(2026, 12, 1, 14, 30, tzinfo=UTC))
        said = sentence("not_started", facts=facts, locale="fr")
        assert "commence le 1er décembre à 09:30." in said

    def test_a_day_is_that_of_the_offers_own_zone(self) -> None:
        midnight_in_tokyo = datetime(2026, 12, 5, 15, tzinfo=UTC)
        facts = COFFEE._replace(time_zone="Asia/Tokyo", ends_at=midnight_in_tokyo)
        assert "ended on 5 Dec." in sentence("ended", facts=facts, locale="en")

    def test_a_start_at_midnight_needs_no_time(self) -> None:
        said = sentence("not_started", facts=COFFEE, locale="en")
        assert "starts on 1 Nov. Please" in said

    def test_no_minimum_and_no_last_day_are_not_mentioned(self) -> None:
        facts = COFFEE._replace(min_spend_minor=0, valid_until=None, channel="online")
        assert sentence("loaded", facts=facts, locale="en").endswith("Pay with it, online.")

    def test_a_coupon_of_years_tells_the_year(self) -> None:
        facts = COFFEE._replace(valid_until=datetime(2029, 1, 1, 5, tzinfo=UTC))
        assert "by 31 Dec 2028," in sentence("loaded", facts=facts, locale="en")

    def test_a_name_keeps_its_sense_when_its_links_go(self) -> None:
        facts = COFFEE._replace(title="#1 coffee, $5 off at @J.Crew", partner="amazon.com")
        text = compose("sold_out", facts=facts, locale="en", reference="7K3Q9ZXM")
        assert "“#1 coffee, $5 off at J·Crew” at amazon·com" in text

    def test_a_long_title_is_cut_before_the_partners_name(self) -> None:
        facts = COFFEE._replace(title="word " * 60)
        text = compose("card_inactive", facts=facts, locale="en", reference="7K3Q9ZXM")
        assert "…” at Corner Coffee could not be loaded." in text

    def test_a_cut_parts_no_letter_from_its_marks(self) -> None:
        for length in range(60, 90):
            facts = COFFEE._replace(title="x" * length + "👨‍👩‍👧‍👦" * 40)
            text = compose("paused", facts=facts, locale="en", reference="7K3Q9ZXM")
            assert "\u200d…" not in text
            assert "👨…" not in text

    def test_an_unknown_outcome_or_locale_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            sentence("lost", facts=COFFEE, locale="en")
        with pytest.raises(KeyError):
            sentence("loaded", facts=COFFEE, locale="de")


class TestLocale:
    @pytest.mark.parametrize(
        ("candidates", "default", "expected"),
        [
            (("fr-CA",), "en", "fr"),
            (("en_GB",), "fr", "en"),
            (("FR",), "en", "fr"),
            ((None, "de", "fr"), "en", "fr"),
            ((None, "de", "und"), "fr-BE", "fr"),
            ((), "de", "en"),
            (("",), "en", "en"),
            (("frr",), "en", "en"),
        ],
    )
    def test_the_first_language_that_has_sentences(
        self, candidates: tuple[str | None, ...], default: str, expected: str
    ) -> None:
        assert locale_for(*candidates, default=default) == expected


class TestReference:
    def test_is_eight_letters_and_digits_without_those_that_look_alike(self) -> None:
        assert reference(UUID(int=(1 << 128) - 1)) == "ZZZZZZZZ"
        assert reference(UUID(int=0)) == "00000000"
        assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{8}", reference(new_id()))

    def test_no_two_of_many_ids_share_one(self) -> None:
        ids = [new_id() for _ in range(10_000)]
        assert len({reference(id) for id in ids}) == len(ids)  # noqa: A001

    def test_makes_equal_sentences_different_texts(self) -> None:
        texts = {
            compose("loaded", facts=COFFEE, locale="en", reference=reference(new_id()))
            for _ in range(1_000)
        }
        assert len(texts) == 1_000


class TestKind:
    def test_is_known_for_every_outcome(self) -> None:
        kinds = {outcome: kind_of(outcome) for outcome in OUTCOMES}
        assert kinds.pop("loaded") == "confirmation"
        assert kinds.pop("not_linked") == "invitation"
        silent = {outcome for outcome, kind in kinds.items() if kind is None}
        assert silent == {"repost", "suspected_abuse", "opted_out"}
        assert {kind for outcome, kind in kinds.items() if outcome not in silent} == {"refusal"}
