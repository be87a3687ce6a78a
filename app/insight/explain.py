"""Why a post did or did not load a coupon, and why a purchase did or did not earn: the outcome in
a sentence for the card-holder, and each rule that was tried with the values it saw.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.insight import queries, sentences
from app.insight.sentences import (
    DECIDED_AGAIN,
    LINKED_TOO_LATE,
    POST_REJECTED,
    POST_REMOVED,
    POST_UNKNOWN,
)
from app.kit import money
from app.offers import service as offers
from app.offers.terms import Terms
from app.posts.decisions import LOADED, OUTCOMES
from app.redemptions import service as redemptions
from app.replies.texts import facts_of, sentence

# what each rule looked at, by the names under which a decision keeps it
_LOOKED_AT: Mapping[str, tuple[str, ...]] = {
    "repost": (),
    "suspected_abuse": (
        "signals",
        "author_age_days",
        "author_followers",
        "author_default_picture",
        "author_posts",
        "member_accounts",
    ),
    "opted_out": (),
    "too_many_offers": ("rank",),
    "not_started": ("posted_at", "starts_at"),
    "ended": ("posted_at", "ends_at"),
    "paused": ("state",),
    "outside_hours": ("posted_at", "time_zone", "days", "hours"),
    "not_linked": ("linked", "not_linked_at", "given_up_at"),
    "card_inactive": (),
    "already_loaded": (),
    "not_eligible": ("customer", "country", "locale"),
    "too_frequent": ("recent_coupons",),
    "sold_out": ("coupons_loaded", "coupons_max"),
    "budget_spent": ("reserved_minor", "budget_minor"),
    LOADED: (),
}


async def explain_post(
    session: AsyncSession, *, post_id: str, network: str = "x", locale: str = "en"
) -> dict[str, Any]:
    """`{"post_id","known","sentence","offers":[{"offer","outcome","sentence","rules":[…]}]}`. A
    post that named no offer was not kept, so it is not known; a rejected or removed one says so.
    """
    answer: dict[str, Any] = {"post_id": post_id, "network": network, "known": False, "offers": []}
    if await queries.is_removed(session, network=network, post_id=post_id):
        answer["sentence"] = POST_REMOVED[locale]
        return answer
    post = await queries.find_post(session, network=network, post_id=post_id)
    if post is None:
        rejected = await queries.find_rejection(session, network=network, post_id=post_id)
        answer["sentence"] = (
            POST_REJECTED[locale].format(reason=rejected) if rejected else POST_UNKNOWN[locale]
        )
        return answer
    decisions = await queries.find_decisions(session, network=network, root_id=post.root_id)
    terms = await offers.read_terms(
        session, versions=[(row.offer_id, row.offer_version) for row in decisions]
    )
    for row in decisions:
        its_terms = terms[row.offer_id, row.offer_version]
        answer["offers"].append(_explain(post, row, its_terms, locale=locale))
    answer |= {
        "known": True,
        "posted_at": post.posted_at,
        "received_at": post.received_at,
        "source": post.source,
        "tags": post.tags,
        "mentions_programme": post.mentions_programme,
        "sentence": " ".join(offer["sentence"] for offer in answer["offers"]),
    }
    return answer


def _explain(post: Any, row: Any, terms: Terms, *, locale: str) -> dict[str, Any]:  # noqa: ANN401 - rows
    values = {
        **row.seen,
        "posted_at": post.posted_at.isoformat(),
        "time_zone": terms.time_zone,
        "days": None if terms.days is None else sorted(terms.days),
        "hours": None if terms.hours_from is None else f"{terms.hours_from} to {terms.hours_to}",
        "linked": row.member_id is not None,
    }
    tried = OUTCOMES[: OUTCOMES.index(row.outcome) + 1]
    told = sentence(row.outcome, facts=facts_of(terms, valid_until=row.valid_until), locale=locale)
    not_linked_at = row.seen.get("not_linked_at")
    if row.seen.get("given_up_at"):
        told = LINKED_TOO_LATE[locale].format(title=terms.title)
    return {
        "offer": terms.title,
        "offer_id": row.offer_id,
        "hashtag": terms.hashtag,
        "outcome": row.outcome,
        "decided_at": row.decided_at,
        "decided_with": row.post_id,
        "coupon_id": row.coupon_id,
        "not_linked_at": not_linked_at,
        "sentence": f"{DECIDED_AGAIN[locale]} {told}" if not_linked_at else told,
        "reply": row.reply_state,
        "rules": [
            {
                "rule": rule,
                "applies": rule == row.outcome,
                "saw": {name: values[name] for name in _LOOKED_AT[rule] if name in values},
            }
            for rule in tried
        ],
    }


async def explain_transaction(
    session: AsyncSession,
    *,
    transaction_id: str,
    member_id: UUID | None = None,
    locale: str = "en",
) -> dict[str, Any]:
    """`{"transaction_id","known","sentence","purchase":{…},"coupons":[{"offer","rules":[…]}]}`: the
    purchase as it stands now, and each coupon that it might have used. For a member, another
    member's transaction is not known.
    """
    row = await queries.find_transaction(session, transaction_id)
    if row is None or member_id not in (None, row.member_id):
        return {
            "transaction_id": transaction_id,
            "known": False,
            "sentence": sentences.PURCHASE_UNKNOWN[locale],
            "coupons": [],
        }
    examined = []
    if row.purchase_id is not None:
        examined = await redemptions.examine_purchase(session, purchase_id=row.purchase_id)
    used = next((one.coupon for one in examined if one.coupon.id == row.coupon_id), None)
    return {
        "transaction_id": transaction_id,
        "known": True,
        "type": row.type,
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "occurred_at": row.occurred_at,
        "received_at": row.received_at,
        "place": row.place,
        "answered_with": row.answer,
        "purchase_id": row.purchase_ref,
        "state": row.state,
        "reason": row.reason,
        "reward_minor": row.owed_minor,
        "credited_minor": row.credited_minor,
        "sentence": _purchase_sentence(
            row, None if used is None else used.terms, examined, locale=locale
        ),
        "coupons": [_examined(one, row) for one in examined],
    }


def _why_none(told: Mapping[str, str], row: Any, examined: Sequence[redemptions.Examined]) -> str:  # noqa: ANN401 - a row
    """The purchase has no redemption: no coupon was valid then, or all that were had been used."""
    used = [one for one in examined if dict(one.rules)["valid_then"]]
    if used:
        return told["used_up"].format(title=used[0].coupon.terms.title)
    return told["none"].format(place=row.place)


def _purchase_sentence(
    row: Any,  # noqa: ANN401 - a row
    terms: Terms | None,
    examined: Sequence[redemptions.Examined],
    *,
    locale: str,
) -> str:
    told = sentences.PURCHASES[locale]
    if row.purchase_id is None:
        return told["unmatched"].format(place=row.place)
    if terms is None:
        return _why_none(told, row, examined)
    spent_minor = row.net_minor if row.cleared_minor else row.authorised_minor
    return told[row.reason or row.state].format(
        place=row.place,
        title=terms.title,
        reward=money.display(row.owed_minor, row.currency, locale),
        spend=money.display(spent_minor, row.currency, locale),
        minimum=money.display(terms.min_spend_minor, terms.currency, locale),
        channel=sentences.CHANNELS[locale][row.channel],
        offer_currency=terms.currency,
        currency=row.currency,
    )


def _examined(examined: redemptions.Examined, row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row
    coupon, terms = examined.coupon, examined.coupon.terms
    saw: dict[str, dict[str, Any]] = {
        "valid_then": {
            "posted_at": coupon.posted_at,
            "purchased_at": row.purchased_at,
            "valid_until": coupon.valid_until,
        },
        "free_use": {"uses": coupon.uses, "uses_max": coupon.uses_max},
        "late": {"closed": coupon.is_closed},
        "currency": {"offer": terms.currency, "purchase": row.currency},
        "acceptor": {"place": row.place},
        "channel": {"offer": terms.channel, "purchase": row.channel},
        "below_minimum": {
            "cleared_minor": row.cleared_minor,
            "net_minor": row.net_minor,
            "min_spend_minor": terms.min_spend_minor,
        },
    }
    return {
        "coupon_id": coupon.id,
        "offer": terms.title,
        "hashtag": terms.hashtag,
        "is_used": coupon.id == row.coupon_id,
        "rules": [
            {"rule": rule, "applies": not holds, "saw": saw[rule]} for rule, holds in examined.rules
        ],
    }
