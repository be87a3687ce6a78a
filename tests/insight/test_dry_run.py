"""A dry run against what a live offer of the same terms really did, and what other terms change."""

import random
from collections import Counter
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.cli.jobs import run_job
from app.config import Settings
from app.errors import Invalid
from app.insight import attribution, dry_run_queries
from app.insight import dry_run as module
from app.insight.attribution import Asked
from app.insight.dry_run import Wanted, dry_run
from app.kit.db import Sessions
from app.members import service as members
from app.offers.schemas import OfferChange
from app.posts.enrol import Enroller
from app.redemptions.service import record_committed
from app.redemptions.transactions import Transaction
from tests.programme import (
    NOW,
    link,
    make_members,
    make_offer,
    make_post,
    make_shop,
    pay,
)

MONTH = {"starts_at": (NOW - timedelta(days=40)).isoformat()}
HOUR = timedelta(hours=1)


async def ask(
    sessions: Sessions, settings: Settings, offer_id: UUID,
    changes: dict[str, Any] | None = None, *,
    days: int = 30, partner_id: UUID | None = None, now: datetime = NOW,
) -> dict[str, Any]:  # fmt: skip
    wanted = Wanted(offer_id, OfferChange.model_validate(changes or {}), days, partner_id)
    return await dry_run(sessions, wanted=wanted, settings=settings, now=now)


async def twin(sessions: Sessions, **terms: Any) -> UUID:
    """A draft of the same hashtag, for next month."""
    window = {"starts_at": (NOW + timedelta(days=20)).isoformat(),
              "ends_at": (NOW + timedelta(days=50)).isoformat()}  # fmt: skip
    return await make_offer(sessions, "Tea", publish=False, offer_ref="twin", **window, **terms)


async def enrol(sessions: Sessions, settings: Settings, *posts: Any, now: datetime = NOW) -> None:
    await Enroller(sessions, settings).enrol(posts, source="test", now=now)


async def rows(sessions: Sessions, query: str, **values: Any) -> list[tuple[Any, ...]]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


async def really(sessions: Sessions, offer_id: UUID) -> dict[str, Any]:
    """What a live offer did, in the names of a dry run."""
    outcomes = await rows(
        sessions,
        "SELECT outcome, count(*) FROM decisions WHERE offer_id = :id GROUP BY 1",
        id=offer_id,
    )
    bought = await rows(
        sessions,
        """
        SELECT r.state, r.reason, p.net_minor, r.owed_minor, c.offer_id = :id
        FROM purchases p
        JOIN coupons k ON k.member_id = p.member_id AND k.offer_id = :id
        LEFT JOIN redemptions r ON r.purchase_id = p.id LEFT JOIN coupons c ON c.id = r.coupon_id
        WHERE p.partner_id = (SELECT partner_id FROM offers WHERE id = :id)
        """,
        id=offer_id,
    )
    own = [row for row in bought if row[4]]
    return {
        "outcomes": dict(outcomes),
        "coupons": dict(outcomes).get("loaded", 0),
        "purchases": len(bought),
        "redemptions": sum(state == "earned" for state, *_ in own),
        "sales_minor": sum(row[2] for row in own if row[0] == "earned"),
        "reward_minor": sum(row[3] for row in own),
        "reasons": Counter(row[1] or row[0] for row in own if row[0] != "earned"),
        "elsewhere": sum(row[4] is False and row[0] != "rejected" for row in bought),
    }


class Story:
    """A month of posts and purchases, told to the service in the order in which they happened."""

    def __init__(self, sessions: Sessions, settings: Settings, seed: int) -> None:
        self.sessions = sessions
        self.settings = settings.model_copy(
            update={
                "author_followers_min": 10,
                "author_posts_max": 2,
                "author_posts_window_minutes": 600,
                "coupons_per_member_max": 1 if seed % 2 else None,
            }
        )
        self.chance = random.Random(seed)
        self.enroller = Enroller(sessions, self.settings)

    async def tell(self) -> None:
        chance = self.chance
        await make_shop(self.sessions, "counter")
        await make_shop(self.sessions, "site", channel="online")
        await make_shop(self.sessions, "inn", mcc="7011")
        accounts = [
            *await make_members(self.sessions, 14, country="US"),
            *await make_members(self.sessions, 6, country="FR"),
        ]
        async with self.sessions.begin() as session:
            silent = await members.find_member(session, ref_or_id=f"m-{accounts[0]}")
            await members.opt_out(session, member_id=silent.id, now=NOW - timedelta(days=29))
        authors = [*accounts, "501", "502", "503"]
        happened: list[tuple[datetime, Any]] = []
        for _ in range(45):
            at = self.some_time(29)
            tags = chance.choice([("tea",), ("tea",), ("cake", "tea"), ("cake",), ("pie", "tea")])
            post = make_post(
                chance.choice(authors), *tags, posted_at=at,
                author_followers=chance.choice([5, 100, 100, None]),
                is_repost=chance.random() < 0.1,
            )  # fmt: skip
            happened.append((at, post))
        for number in range(60):
            happened += self.purchase(f"p{number}", chance.choice(accounts))
        happened.sort(key=lambda one: one[0])
        for is_bought, run in groupby(happened, key=lambda one: isinstance(one[1], Transaction)):
            together = list(run)
            at = together[-1][0]
            if is_bought:
                bought = [one for _, one in together]
                await record_committed(self.sessions, transactions=bought, now=at)
                await run_job(self.sessions, "lapse", now=at)
            else:
                posts = [one for _, one in together]
                await self.enroller.enrol(posts, source="test", now=at)
        await run_job(self.sessions, "lapse", now=NOW)

    def some_time(self, days: float) -> datetime:
        return NOW - timedelta(seconds=self.chance.randrange(60, int(days * 86_400)))

    def purchase(self, ref: str, account: str) -> list[tuple[datetime, Transaction]]:
        chance = self.chance
        amount, begun = chance.randrange(100, 6_000), self.some_time(28)
        given = {
            "card_ref": f"c-{account}",
            "acquirer_id": "ACQ",
            "acceptor_id": chance.choice(["counter", "counter", "site", "inn"]),
            "currency": chance.choice(["USD"] * 9 + ["EUR"]),
        }
        kinds = chance.choice(
            [["authorization", "clearing"]] * 5
            + [["clearing"], ["authorization"], ["authorization", "reversal"]]
            + [["authorization", "clearing", "refund"], ["authorization", "clearing", "lone"]]
            + [["decline", "authorization", "clearing"], ["clearing", "clearing"]]
        )
        found = []
        for number, kind in enumerate(kinds):
            at = begun + number * chance.choice([HOUR, 30 * HOUR])
            part = amount if kind != "refund" else chance.choice([amount, amount // 3])
            fields: dict[str, Any] = {**given, "amount_minor": part, "occurred_at": at}
            fields |= {"id": f"{ref}-{number}", "type": "refund" if kind == "lone" else kind}
            fields["purchase_id"] = None if kind == "lone" else ref
            if at < NOW:
                found.append((at, Transaction(**fields)))
        return found


class TestATwin:
    @pytest.mark.parametrize(
        ("seed", "terms"),
        [
            (2, {"min_spend_minor": 1_500, "channel": "in_store", "redemptions_per_coupon": 3}),
            (3, {"coupons_max": 7, "hours": {"from": "08:00", "to": "20:00"}}),
            (4, {"budget_minor": 4_400, "refund_policy": "burn"}),
            (5, {"reward": {"basis_points": 1_000, "max_minor": 300}, "coupon_valid_days": 9}),
            (6, {"audience": {"customers": ["returning"], "countries": ["US"]}}),
        ],
        ids=[f"story-{seed}" for seed in range(2, 7)],
    )
    async def test_would_have_done_what_the_live_offer_did(
        self, sessions: Sessions, settings: Settings, seed: int, terms: dict[str, Any]
    ) -> None:
        live = await make_offer(sessions, "Tea", **MONTH, **terms)
        story = Story(sessions, settings, seed)
        if seed == 4:
            await make_offer(sessions, "Cake", **MONTH, reward={"fixed_minor": 700})
        await story.tell()
        draft = await twin(sessions, **terms)
        found = await ask(sessions, story.settings, draft)
        did = await really(sessions, live)
        assert found["posts_from"] == "this_hashtag"
        named = ("outcomes", "coupons", "purchases", "redemptions", "sales_minor", "reward_minor")
        assert {name: found[name] for name in named} == {name: did[name] for name in named}
        assert did["redemptions"] > 1
        assert found["not_rewarded"].get("already_rewarded", 0) == did["elsewhere"]
        if did["elsewhere"] == 0:
            told = Counter(found["not_rewarded"])
            del told["outside_validity"]
            assert told == did["reasons"] | Counter(used_up=told["used_up"])

    async def test_counts_what_was_kept_of_a_return_as_no_sale(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_shop(sessions, "counter")
        live = await make_offer(sessions, "Tea", **MONTH, min_spend_minor=1_000)
        (account,) = await make_members(sessions, 1)
        await enrol(sessions, settings, make_post(account, "tea", posted_at=NOW - HOUR))
        await pay(sessions, account, "clearing", 2_000, purchase_id="back")
        await pay(sessions, account, "refund", 1_500, purchase_id="back")
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            (row,) = (await attribution.attribution(session, Asked())).items
        found = await ask(sessions, settings, live, now=NOW + HOUR)
        for name in ("redemptions", "sales_minor", "reward_minor", "average_basket_minor"):
            assert found[name] == row[name], name
        assert found["not_rewarded"] == {"returned": 1}


SHOP = {"acquirer_id": "ACQ", "acceptor_id": "site"}
NOTHING_TAKEN = {"outcomes": {"loaded": 4}, "coupons": 4, "redemptions": 4, "sales_minor": 10_000,
                 "reward_minor": 2_000, "not_rewarded": {}}  # fmt: skip


OTHER_TERMS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"reward": {"basis_points": 1_000, "max_minor": 250}}, {"reward_minor": 800}),
    (
        {"min_spend_minor": 2_500},
        {
            "redemptions": 2,
            "sales_minor": 7_000,
            "reward_minor": 1_000,
            "not_rewarded": {"below_minimum": 2},
            "average_basket_minor": 3_500,
            "reward_share": 0.1429,
        },
    ),
    (
        {"channel": "online"},
        {
            "redemptions": 1,
            "sales_minor": 4_000,
            "reward_minor": 500,
            "not_rewarded": {"channel": 3},
        },
    ),
    (
        {"acceptors": [SHOP]},
        {
            "redemptions": 1,
            "sales_minor": 4_000,
            "reward_minor": 500,
            "not_rewarded": {"acceptor": 3},
        },
    ),
    (
        {"currency": "EUR"},
        {
            "redemptions": 0,
            "sales_minor": 0,
            "reward_minor": 0,
            "not_rewarded": {"currency": 4},
            "average_basket_minor": None,
        },
    ),
    (
        {"coupons_max": 3},
        {
            "outcomes": {"loaded": 3, "sold_out": 1},
            "coupons": 3,
            "redemptions": 3,
            "sales_minor": 6_000,
            "reward_minor": 1_500,
            "would_be_sold_out_at": NOW - HOUR,
            "would_be_budget_spent_at": None,
        },
    ),
    (
        {"budget_minor": 1_300},
        {
            "outcomes": {"loaded": 2, "budget_spent": 2},
            "coupons": 2,
            "redemptions": 2,
            "sales_minor": 3_000,
            "reward_minor": 1_000,
            "would_be_sold_out_at": None,
            "would_be_budget_spent_at": NOW - 2 * HOUR,
        },
    ),
    (
        {"hours": {"from": "11:30", "to": "13:30"}, "time_zone": "Europe/Paris"},
        {
            "outcomes": {"loaded": 2, "outside_hours": 2},
            "coupons": 2,
            "redemptions": 2,
            "sales_minor": 7_000,
            "reward_minor": 1_000,
        },
    ),
    (
        {"days": ["mon", "tue"]},
        {
            "outcomes": {"outside_hours": 4},
            "coupons": 0,
            "redemptions": 0,
            "sales_minor": 0,
            "reward_minor": 0,
            "purchases": 0,
        },
    ),
    (
        {"audience": {"customers": ["new"]}},
        {
            "outcomes": {"loaded": 3, "not_eligible": 1},
            "coupons": 3,
            "redemptions": 3,
            "sales_minor": 9_000,
            "reward_minor": 1_500,
        },
    ),
    (
        {"audience": {"countries": ["FR"], "languages": ["fr"]}},
        {
            "outcomes": {"loaded": 2, "not_eligible": 2},
            "coupons": 2,
            "redemptions": 2,
            "sales_minor": 7_000,
            "reward_minor": 1_000,
        },
    ),
    ({"coupon_valid_days": None, "coupon_last_day": "2026-09-03"}, {}),
]


@pytest.fixture
async def four(sessions: Sessions, settings: Settings) -> UUID:
    """An offer of 5 USD back, and four members, two of them French, who post for it at 8, 9, 10 and
    11 on NOW's Wednesday and spend 10, 20, 30 and 40 USD, the last of it online. The first was a
    customer before. Answers a draft of the same.
    """
    await make_shop(sessions, "counter")
    await make_shop(sessions, "site", channel="online")
    await make_offer(sessions, "Tea", **MONTH)
    accounts = [
        *await make_members(sessions, 2),
        *await make_members(sessions, 2, country="FR", locale="fr-FR"),
    ]
    before = NOW - timedelta(days=35)
    await pay(sessions, accounts[0], "clearing", 700, occurred_at=before)
    for number, account in enumerate(accounts):
        post = make_post(account, "tea", posted_at=NOW - (4 - number) * HOUR)
        await enrol(sessions, settings, post, now=post.posted_at)
    for number, account in enumerate(accounts, start=1):
        place = "site" if number == 4 else "counter"
        await pay(
            sessions, account, "clearing", 1_000 * number, acceptor_id=place,
            occurred_at=NOW - timedelta(minutes=30),
        )  # fmt: skip
    return await twin(sessions)


class TestOtherTerms:
    async def test_do_what_they_say(
        self, sessions: Sessions, settings: Settings, four: UUID
    ) -> None:
        for changes, differently in OTHER_TERMS:
            found = await ask(sessions, settings, four, changes)
            expected = NOTHING_TAKEN | differently
            assert {name: found[name] for name in expected} == expected, changes

    async def test_that_an_offer_may_not_have_are_refused(
        self, sessions: Sessions, settings: Settings, four: UUID
    ) -> None:
        for changes in (
            {"ends_at": MONTH["starts_at"]},
            {"acceptors": [{**SHOP, "acceptor_id": "x"}]},
        ):
            with pytest.raises(Invalid):
                await ask(sessions, settings, four, changes)


@pytest.mark.usefixtures("four")
class TestWhosePosts:
    async def test_are_those_of_all_the_partners_offers_where_the_hashtag_is_new(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        draft = await make_offer(sessions, "Scone", publish=False, reward={"fixed_minor": 100})
        found = await ask(sessions, settings, draft)
        assert found["posts_from"] == "partner_offers"
        assert module.OF_OTHER_OFFERS in found["assumptions"]
        assert (found["posts"], found["coupons"], found["reward_minor"]) == (4, 4, 400)

    async def test_are_never_another_partners(self, sessions: Sessions, settings: Settings) -> None:
        draft = await make_offer(sessions, "Tea", partner="rival", publish=False)
        found = await ask(sessions, settings, draft)
        assert (found["posts_from"], found["posts"], found["outcomes"]) == ("none", 0, {})

    async def test_are_within_the_window(
        self, sessions: Sessions, settings: Settings, four: UUID
    ) -> None:
        tomorrow = NOW + timedelta(hours=21, minutes=30)
        found = await ask(sessions, settings, four, days=1, now=tomorrow)
        assert (found["since"], found["posts"]) == (tomorrow - timedelta(days=1), 2)
        found = await ask(sessions, settings, four, now=NOW + timedelta(days=31))
        assert found["posts_from"] == "none"

    async def test_are_once_each_however_many_offers_they_name(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Cake", **MONTH)
        (account,) = await make_members(sessions, 1)
        await enrol(sessions, settings, make_post(account, "cake", "tea"))
        draft = await make_offer(sessions, "Scone", publish=False)
        assert (await ask(sessions, settings, draft, now=NOW + HOUR))["outcomes"] == {"loaded": 5}

    async def test_are_of_the_members_who_linked_since(
        self, sessions: Sessions, settings: Settings, four: UUID
    ) -> None:
        await enrol(sessions, settings, make_post("777", "tea"), make_post("778", "tea"))
        await link(sessions, "777")
        found = await ask(sessions, settings, four)
        assert found["outcomes"] == {"loaded": 5, "not_linked": 1}


class TestWhatItTakes:
    async def test_is_nothing_written_and_a_fixed_number_of_statements(
        self, sessions: Sessions, settings: Settings, four: UUID, statements: list[str]
    ) -> None:
        readable = await rows(
            sessions,
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relkind = 'r' AND has_table_privilege(oid, 'SELECT')",
        )
        assert len(readable) > 30
        query = " UNION ALL ".join(
            f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name}"
            for (name,) in readable
        )
        rest = await make_offer(sessions, "Scone", publish=False, partner="rival")
        before = await rows(sessions, query)
        taken = []
        for offer_id in (four, rest):
            statements.clear()
            await ask(sessions, settings, offer_id, {"audience": {"customers": ["new"]}})
            taken.append([one.split()[0] for one in statements])
            assert statements[0].endswith("REPEATABLE READ, READ ONLY")
        assert await rows(sessions, query) == before
        assert taken[0] == taken[1] == ["SET"] + ["SELECT"] * 6 + ["WITH", "SELECT"]

    async def test_is_bounded_and_says_so(
        self, sessions: Sessions, settings: Settings, four: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not (await ask(sessions, settings, four))["is_cut"]
        monkeypatch.setattr(module, "ROWS_MAX", 2)
        found = await ask(sessions, settings, four)
        assert (found["is_cut"], found["posts"], found["sales_minor"]) == (True, 2, 7_000)
        assert module.CUT in found["assumptions"]

    async def test_is_an_index_for_the_decisions_and_for_the_purchases(
        self, sessions: Sessions, four: UUID
    ) -> None:
        window = {"since": NOW - timedelta(days=30), "until": NOW, "most": 10}
        async with sessions.begin() as session:
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            for query, index, more in (
                (dry_run_queries.POSTS, "ix_decisions_offer_id", {}),
                (
                    dry_run_queries.TRANSACTIONS,
                    "ix_purchases_card_partner",
                    {"partner_id": four, "member_ids": [four]},
                ),
            ):
                asked = {"offer_ids": [four], **window, **more}
                plan = await session.scalars(text(f"EXPLAIN {query.text}"), asked)
                assert index in "\n".join(plan)
