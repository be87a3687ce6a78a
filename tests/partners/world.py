"""Two partners, each with all that a partner may have, and card-holders who have bought at both."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from app.cli.jobs import run_job
from app.config import Settings
from app.insight import attribution
from app.kit.clock import now
from app.kit.db import Sessions
from app.notifications import service as notifications
from app.offers import service as offers
from app.partners import keys
from app.partners.roles import Role
from app.posts.enrol import Enroller
from app.secret_keys import sealer_of
from tests.programme import NOW, OPERATOR, make_members, make_offer, make_post, make_shop, pay

PARTNERS = {"cafe": "Tea", "rival": "Cake"}
BUYERS = 12  # a partner is shown figures of ten or more
POSTERS = BUYERS + 2  # one brings back what he bought, one buys too little
REWARD_MINOR = 500
POSTED_BEFORE = timedelta(hours=8, minutes=43)  # a minute that nothing else has
REACH = 7_654_321  # and so much that no other figure is
HOOKS = "https://shop.test/hooks"
# what a partner owns, and how a route names it
_OWN = {
    "merchant_id": "SELECT id FROM acceptors WHERE partner_id = :partner_id",
    "offer_id": "SELECT id FROM offers WHERE partner_id = :partner_id",
    "redemption_id": "SELECT redemption_id FROM sales WHERE partner_id = :partner_id LIMIT 1",
    "endpoint_id": "SELECT id FROM webhook_endpoints WHERE partner_id = :partner_id",
    "delivery_id": (
        "SELECT d.id FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id "
        "WHERE e.partner_id = :partner_id LIMIT 1"
    ),
}


@dataclass
class Tenant:
    """With its key, and the names that routes have for what is its own."""

    partner_id: UUID
    key: str
    named: dict[str, str]


async def make_world(sessions: Sessions, settings: Settings) -> dict[str, Tenant]:
    offer_ids = []
    for partner, tag in PARTNERS.items():
        offer_ids.append(
            await make_offer(
                sessions,
                tag,
                partner=partner,
                min_spend_minor=1_000,
                coupons_max=POSTERS,
                budget_minor=POSTERS * REWARD_MINOR,
            )
        )
        await make_shop(sessions, f"of-{partner}", partner=partner)
        await _listen(sessions, settings, partner)
    members = await make_members(sessions, POSTERS)
    await _load(sessions, settings, members)
    for partner in PARTNERS:
        await _shop(sessions, partner, members)
    await attribution.flush(sessions)
    for offer_id in offer_ids:
        async with sessions.begin() as session:
            await offers.end(session, offer_id=offer_id, by=OPERATOR, now=NOW)
    await run_job(sessions, "close", now=NOW + timedelta(days=70))
    return {partner: await _tenant(sessions, partner) for partner in PARTNERS}


async def _listen(sessions: Sessions, settings: Settings, partner: str) -> None:
    async with sessions.begin() as session:
        row, _ = await notifications.create_endpoint(
            session,
            actor="test",
            own_partner_id=None,
            partner=partner,
            url=HOOKS,
            events=None,
            description=None,
            sealer=sealer_of(settings),
            now=NOW,
        )
        await notifications.send_test(session, endpoint_id=row.endpoint.id, now=NOW)


async def _load(sessions: Sessions, settings: Settings, members: Sequence[str]) -> None:
    tags = [tag.lower() for tag in PARTNERS.values()]
    posts = [
        make_post(member, *tags, posted_at=NOW - POSTED_BEFORE, author_followers=REACH)
        for member in members
    ]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)


async def _shop(sessions: Sessions, partner: str, members: Sequence[str]) -> None:
    """In every way that a purchase can go."""
    *buyers, regretful, frugal = members
    for member in (*buyers, regretful, frugal):
        amount_minor = 700 if member == frugal else 2_000
        kinds = ["authorization", "clearing"] if member in (buyers[0], frugal) else ["clearing"]
        if member == regretful:
            kinds.append("refund")
        for kind in kinds:
            await pay(
                sessions,
                member,
                kind,
                amount_minor,
                id=f"transaction-{partner}-{member}-{kind}",
                purchase_id=f"purchase-{partner}-{member}",
                acceptor_id=f"of-{partner}",
            )


async def _tenant(sessions: Sessions, ref: str) -> Tenant:
    async with sessions.begin() as session:
        new = await keys.create_key(session, actor="test", role="partner", partner=ref, now=now())
        partner_id = new.record.partner_id
        assert partner_id is not None
        named = {"partner": str(partner_id), "key_id": str(new.record.id)}
        for name, query in _OWN.items():
            named[name] = str(await session.scalar(text(query), {"partner_id": partner_id}))
    return Tenant(partner_id, new.key, named)


async def make_key_for(
    sessions: Sessions, role: Role, *, bound: bool = False, ending: str | None = None
) -> str:
    """Of that role; cafe's if it is bound, or a partner's. `ending` is revoked or expired."""
    at = now() - timedelta(days=2)
    async with sessions.begin() as session:
        new = await keys.create_key(
            session,
            actor="test",
            role=role,
            partner="cafe" if bound or role == "partner" else None,
            now=at,
            expires_at=at + timedelta(days=1) if ending == "expired" else None,
        )
        if ending == "revoked":
            await keys.revoke_key(
                session, actor="test", key_id=new.record.id, now=at, may_be_last=True
            )
    return new.key
