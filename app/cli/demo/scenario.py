"""A small programme, made up from a seed and a moment: the same two give the same posts and
purchases to the last digit, so that a second run is a repeat.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

Row = dict[str, Any]

SEED = 2012
MEMBERS = 520
STRANGERS = 90
POSTS = 1_300
ARCHIVED = 140
HANDLE = "TagbackDemo"
ACCOUNT_ID = "1000000000000000001"
_X_EPOCH_MS = 1_288_834_974_657

PARTNERS = {
    "corner-coffee": "Corner Coffee",
    "harbour-books": "Harbour Books",
    "maison-lumiere": "Maison Lumière",
    "kaze-ramen": "Kaze Ramen",
    "summit-sports": "Summit Sports",
}
_COUNTRIES = {
    "corner-coffee": ("US", "5814"),
    "harbour-books": ("US", "5942"),
    "maison-lumiere": ("FR", "5712"),
    "kaze-ramen": ("JP", "5812"),
    "summit-sports": ("CA", "5941"),
}
_CURRENCIES = {"maison-lumiere": "EUR", "kaze-ramen": "JPY"}
_TYPICAL_MINOR = {"USD": 3_800, "EUR": 7_500, "JPY": 1_900}
_TEXTS = {
    "en": "Just heard about this, trying it out {tags} {mention}",
    "fr": "Une bonne idée pour ce week-end {tags} {mention}",
    "ja": "週末に行きます {tags} {mention}",
    "es": "Me apunto a esto hoy mismo {tags} {mention}",
}


@dataclass
class Scenario:
    """`live` posts go through the stand-in; `archive` is a file of v1.1 tweets."""

    started_at: datetime
    merchants: list[Row] = field(default_factory=list)
    offers: list[Row] = field(default_factory=list)
    members: list[Row] = field(default_factory=list)
    people: list[Row] = field(default_factory=list)
    live: list[Row] = field(default_factory=list)
    archive: list[Row] = field(default_factory=list)
    transactions: list[Row] = field(default_factory=list)


def build(started_at: datetime, *, seed: int = SEED) -> Scenario:
    random = Random(seed)  # noqa: S311 - a story, not a secret
    scenario = Scenario(started_at)
    scenario.merchants = list(_merchants())
    scenario.offers = list(_offers(started_at))
    scenario.members = [_member(number, random) for number in range(MEMBERS)]
    scenario.people = list(_people(scenario, random))
    posted = _posts(scenario, random)
    scenario.transactions = list(_transactions(scenario, posted, random))
    return scenario


def _merchants() -> Iterator[Row]:
    for partner, name in PARTNERS.items():
        country, mcc = _COUNTRIES[partner]
        for channel, place in (("in_store", "Main Street"), ("online", "online")):
            yield {
                "partner": partner,
                "acquirer_id": "ACQ-1",
                "acceptor_id": f"{partner}-{channel}",
                "name": f"{name}, {place}",
                "channel": channel,
                "mcc": mcc,
                "country": country,
            }


def _offers(now: datetime) -> Iterator[Row]:
    def offer(partner: str, hashtag: str, title: str, reward: Row, **more: Any) -> Row:  # noqa: ANN401
        zone = {"maison-lumiere": "Europe/Paris", "kaze-ramen": "Asia/Tokyo"}
        return {
            "offer_ref": hashtag.lower(),
            "partner": partner,
            "title": title,
            "hashtag": hashtag,
            "starts_at": _at(now, days=-40),
            "ends_at": _at(now, days=20),
            "time_zone": zone.get(partner, "America/New_York"),
            "currency": _CURRENCIES.get(partner, "USD"),
            "reward": reward,
            **more,
        }

    quiet = now + timedelta(hours=3)
    yield offer("corner-coffee", "CoffeeFriday", "$5 back on breakfast", {"fixed_minor": 500},
                min_spend_minor=1_500)  # fmt: skip
    yield offer("corner-coffee", "CoffeeTwice", "Two visits, $2 back on each",
                {"fixed_minor": 200}, redemptions_per_coupon=2)  # fmt: skip
    yield offer("corner-coffee", "CoffeeWinter", "Winter blend", {"fixed_minor": 300},
                starts_at=_at(now, days=10), ends_at=_at(now, days=30))  # fmt: skip
    yield offer("harbour-books", "HarbourReads", "10% back on books",
                {"basis_points": 1_000, "max_minor": 2_000})  # fmt: skip
    yield offer("harbour-books", "HarbourSummer", "Summer reading",
                {"basis_points": 500, "max_minor": 1_000}, ends_at=_at(now, days=-5))  # fmt: skip
    yield offer("maison-lumiere", "LumiereSoldes", "20 % remboursés",
                {"basis_points": 2_000, "max_minor": 2_500}, min_spend_minor=5_000)  # fmt: skip
    yield offer("maison-lumiere", "LumiereNuit", "Nuit des lampes", {"fixed_minor": 800})
    yield offer("kaze-ramen", "KazeRamen", "¥300 back on a bowl", {"fixed_minor": 300},
                min_spend_minor=1_000)  # fmt: skip
    yield offer("kaze-ramen", "KazeLate", "Late bowls", {"fixed_minor": 200}, time_zone="UTC",
                hours={"from": quiet.strftime("%H:00"),
                       "to": (quiet + timedelta(hours=2)).strftime("%H:00")})  # fmt: skip
    yield offer("summit-sports", "SummitGear", "15% back on gear",
                {"basis_points": 1_500, "max_minor": 3_000}, coupons_max=60)  # fmt: skip
    yield offer("summit-sports", "SummitTrail", "$10 back on trail shoes",
                {"fixed_minor": 1_000}, budget_minor=25_000)  # fmt: skip
    yield offer("summit-sports", "SummitQuebec", "For our neighbours", {"fixed_minor": 700},
                audience={"countries": ["CA"]})  # fmt: skip


PAUSED = "lumierenuit"
_POPULAR = {
    "CoffeeFriday": 22, "HarbourReads": 18, "LumiereSoldes": 12, "KazeRamen": 12, "SummitGear": 10,
    "CoffeeTwice": 8, "SummitTrail": 5, "SummitQuebec": 4, "CoffeeWinter": 3, "HarbourSummer": 3,
    "LumiereNuit": 3, "KazeLate": 3,
}  # fmt: skip


def _member(number: int, random: Random) -> Row:
    country = random.choices(("US", "FR", "JP", "CA"), (60, 18, 14, 8))[0]
    locale = {"FR": "fr-FR", "JP": "ja-JP"}.get(country, "en-US")
    return {
        "member_ref": f"M{number:05}",
        "account": {"network": "x", "id": str(2_000_000_000 + number), "handle": f"fan{number:04}"},
        "card": {
            "card_ref": f"card-{random.getrandbits(64):016x}",
            "network": random.choice(("visa", "mastercard")),
            "last4": f"{random.randrange(10_000):04}",
        },
        "consented_at": "2026-01-10T09:00:00Z",
        "locale": locale,
        "country": country,
    }


def _people(scenario: Scenario, random: Random) -> Iterator[Row]:
    now = scenario.started_at
    for member in scenario.members:
        account = member["account"]
        yield {
            "id": account["id"],
            "handle": account["handle"],
            "followers": int(random.paretovariate(1.1) * 30),
            "created_at": _at(now, days=-random.randrange(200, 5_000)),
        }
    for number in range(STRANGERS):
        # a few are a day old: the demo's programme does not trust those
        age_days = 1 if number % 15 == 0 else random.randrange(100, 4_000)
        yield {
            "id": str(3_000_000_000 + number),
            "handle": f"passerby{number:03}",
            "followers": random.randrange(400),
            "created_at": _at(now, days=-age_days),
        }


def _posts(scenario: Scenario, random: Random) -> list[tuple[Row, str]]:
    """Fills `live` and `archive`; answers which member named which hashtag."""
    members = {member["account"]["id"]: member for member in scenario.members}
    authors = [person["id"] for person in scenario.people]
    tags = list(_POPULAR)
    posted: list[tuple[Row, str]] = []
    originals: list[Row] = []
    for number in range(POSTS):
        author = random.choice(authors)
        named = random.choices(
            tags, list(_POPULAR.values()), k=random.choices((1, 2, 3), (90, 8, 2))[0]
        )
        post = _post(scenario.started_at, number, author, named, random)
        scenario.live.append(post)
        originals.append(post)
        if author in members:
            posted += [(members[author], tag) for tag in named]
    number = POSTS
    for kind, count in (("edit_of", 40), ("repost_of", 35), ("quote_of", 25)):
        for original in random.sample(originals, count):
            post = _post(
                scenario.started_at, number, original["author_id"], ["HarbourReads"], random
            )
            post["created_at"] = _later(original["created_at"], seconds=40)
            post["id"] = _post_id(post["created_at"], number)
            post[kind] = original["id"]
            if kind == "repost_of":
                post["author_id"] = random.choice(authors)
            scenario.live.append(post)
            number += 1
    scenario.live += random.sample(originals, 80)  # networks deliver some posts twice
    for index in range(ARCHIVED):
        person = random.choice(scenario.people)
        tag = random.choices(tags, list(_POPULAR.values()))[0]
        scenario.archive.append(_archived(scenario.started_at, number + index, person, tag, random))
        if person["id"] in members:
            posted.append((members[person["id"]], tag))
    return posted


def _post(now: datetime, number: int, author: str, tags: list[str], random: Random) -> Row:
    lang = random.choices(("en", "fr", "ja", "es"), (60, 20, 12, 8))[0]
    mention = f"@{HANDLE}" if random.random() < 0.85 else ""  # noqa: PLR2004 - most mention it
    text = _TEXTS[lang].format(tags=" ".join(f"#{tag}" for tag in tags), mention=mention)
    created_at = _at(now, minutes=-random.uniform(6, 55))
    post = {
        "id": _post_id(created_at, number),
        "author_id": author,
        "text": text,
        "created_at": created_at,
        "lang": lang,
    }
    if number % 50 == 0:
        post["long_text"] = "So much to say about this. " * 14 + text
        del post["text"]
    return post


def _archived(now: datetime, number: int, person: Row, tag: str, random: Random) -> Row:
    """A v1.1 tweet as archives have it; days old, so that it loads a coupon and is not answered."""
    created_at = now - timedelta(days=random.uniform(2, 4))
    born = datetime.fromisoformat(person["created_at"])
    return {
        "id_str": _post_id(created_at.isoformat(), number),
        "created_at": created_at.strftime("%a %b %d %H:%M:%S +0000 %Y"),
        "full_text": f"Looking forward to this #{tag}",
        "entities": {"hashtags": [{"text": tag, "indices": [24, 25 + len(tag)]}]},
        "lang": "en",
        "user": {
            "id_str": person["id"],
            "screen_name": person["handle"],
            "followers_count": person["followers"],
            "created_at": born.strftime("%a %b %d %H:%M:%S +0000 %Y"),
            "default_profile_image": False,
        },
    }


def _transactions(
    scenario: Scenario, posted: list[tuple[Row, str]], random: Random
) -> Iterator[Row]:
    partners = {offer["hashtag"]: offer["partner"] for offer in scenario.offers}
    made: list[Row] = []
    for number, (member, tag) in enumerate(posted):
        if random.random() < 0.62:  # noqa: PLR2004 - most who post also buy
            made += _purchase(scenario.started_at, number, member, partners[tag], random)
    yield from made
    yield from random.sample(made, 40)  # processors send some messages twice
    for number in range(120):
        stranger = {"card": {"card_ref": f"card-unknown-{number}"}}
        partner = random.choice(list(PARTNERS))
        yield from _purchase(scenario.started_at, 90_000 + number, stranger, partner, random)
    for number in range(60):
        member = random.choice(scenario.members)
        for row in _purchase(scenario.started_at, 95_000 + number, member, "corner-coffee", random):
            yield {**row, "acceptor_id": "somewhere-else"}


def _purchase(now: datetime, number: int, member: Row, partner: str, random: Random) -> list[Row]:
    currency = _CURRENCIES.get(partner, "USD")
    amount = int(_TYPICAL_MINOR[currency] * random.lognormvariate(0, 0.5))
    channel = random.choices(("in_store", "online"), (65, 35))[0]
    story = random.choices(
        (
            "plain",
            "tip",
            "split",
            "partial_refund",
            "refund",
            "loose_refund",
            "reversal",
            "decline",
        ),
        (66, 8, 6, 6, 5, 2, 4, 3),
    )[0]
    steps = {
        "plain": [("authorization", amount), ("clearing", amount)],
        "tip": [("authorization", amount), ("clearing", amount * 118 // 100)],
        "split": [("authorization", amount), ("clearing", amount // 2),
                  ("clearing", amount - amount // 2)],
        "partial_refund": [("authorization", amount), ("clearing", amount),
                           ("refund", amount // 3)],
        "refund": [("authorization", amount), ("clearing", amount), ("refund", amount)],
        "loose_refund": [("authorization", amount), ("clearing", amount), ("refund", amount)],
        "reversal": [("authorization", amount), ("reversal", amount)],
        "decline": [("authorization", amount), ("decline", amount)],
    }[story]  # fmt: skip
    rows = []
    for step, (kind, minor) in enumerate(steps):
        row = {
            "id": f"T{number:06}-{step}",
            "type": kind,
            "purchase_id": f"P{number:06}",
            "card_ref": member["card"]["card_ref"],
            "acquirer_id": "ACQ-1",
            "acceptor_id": f"{partner}-{channel}",
            "amount_minor": minor,
            "currency": currency,
            "occurred_at": _at(now, minutes=-5, seconds=number % 60 + 60 * step),
        }
        if story == "loose_refund" and kind == "refund":
            del row["purchase_id"]
        rows.append(row)
    return rows


def _at(now: datetime, **offset: float) -> str:
    return (now + timedelta(**offset)).astimezone(UTC).isoformat(timespec="milliseconds")


def _later(moment: str, *, seconds: float) -> str:
    return _at(datetime.fromisoformat(moment), seconds=seconds)


def _post_id(created_at: str, number: int) -> str:
    """A snowflake: its high bits are the time, its low ones tell posts of a millisecond apart."""
    milliseconds = int(datetime.fromisoformat(created_at).timestamp() * 1_000) - _X_EPOCH_MS
    return str(milliseconds << 22 | number)
