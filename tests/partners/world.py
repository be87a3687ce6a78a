"""Two partners, each with all that a partner may have, and card-holders who have bought at both."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from app.config import Settings
from app.insight import attribution
from app.kit.clock import now
from app.kit.db import Sessions
from app.partners import keys
from app.partners.roles import Role
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay

PARTNERS = {"cafe": "Tea", "rival": "Cake"}
BUYERS = 12  # a partner is shown figures of ten or more
_ENDPOINT = """
    INSERT INTO webhook_endpoints (id, partner_id, url, events, secret_encrypted)
    VALUES (gen_random_uuid(), :partner_id, 'https://shop.test/', '{}', '\\x00')
"""
_DELIVERY = """
    INSERT INTO webhook_deliveries (id, endpoint_id, event, subject, sequence, body, not_before)
    SELECT gen_random_uuid(), id, 'offer.ended', 'offer', 1, '{}', now()
    FROM webhook_endpoints WHERE partner_id = :partner_id
"""


@dataclass
class Tenant:
    """With its key, and the names that routes have for what is its own."""

    partner_id: UUID
    key: str
    named: dict[str, str]


async def make_world(sessions: Sessions, settings: Settings) -> dict[str, Tenant]:
    for partner, tag in PARTNERS.items():
        await make_offer(sessions, tag, partner=partner)
        await make_shop(sessions, f"of-{partner}", partner=partner)
    buyers = await make_members(sessions, BUYERS)
    posts = [make_post(buyer, *map(str.lower, PARTNERS.values())) for buyer in buyers]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    for buyer in buyers:
        for partner in PARTNERS:
            await pay(sessions, buyer, "clearing", 2_000, acceptor_id=f"of-{partner}")
    await attribution.flush(sessions)
    return {partner: await _tenant(sessions, partner) for partner in PARTNERS}


async def _tenant(sessions: Sessions, ref: str) -> Tenant:
    async with sessions.begin() as session:
        new = await keys.create_key(session, actor="test", role="partner", partner=ref, now=now())
        partner_id = new.record.partner_id
        assert partner_id is not None
        for statement in (_ENDPOINT, _DELIVERY):
            await session.execute(text(statement), {"partner_id": partner_id})
        named = {"partner": str(partner_id), "key_id": str(new.record.id)}
        for name, table in (("merchant_id", "acceptors"), ("offer_id", "offers")):
            query = text(f"SELECT id FROM {table} WHERE partner_id = :partner_id")
            named[name] = str(await session.scalar(query, {"partner_id": partner_id}))
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
