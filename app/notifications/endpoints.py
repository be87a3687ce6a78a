from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from app.deps import NowDep, SettingsDep
from app.errors import Conflict, NotFound, Unavailable
from app.kit.fields import Instant
from app.kit.pagination import Page, PagingDep, make_page
from app.kit.sealing import Sealer
from app.notifications import service
from app.notifications.domain import DeliveryState, EventName
from app.notifications.guard import Guard, resolve_host
from app.notifications.schemas import (
    DeliveryOut,
    EndpointChange,
    EndpointIn,
    EndpointOut,
    NewSecretOut,
    ReplayedOut,
    ReplayIn,
)
from app.openapi import problems
from app.partners.auth import Principal, require
from app.partners.idempotency import ApiRoute
from app.partners.schemas import PartnerRefOrId
from app.partners.tenancy import TenantSession
from app.secret_keys import sealer_of

router = APIRouter(prefix="/v1", tags=["webhooks"], route_class=ApiRoute)

Partner = Annotated[Principal, Depends(require("partner", "operator"))]


async def _checked(body: EndpointIn, _who: Partner, settings: SettingsDep) -> str:
    """The URL. Its host is looked up before the request's transaction begins."""
    return await Guard(settings.webhooks_allow, resolve_host).check(body.url)


async def _checked_change(body: EndpointChange, _who: Partner, settings: SettingsDep) -> str | None:
    if body.url is None:
        return None
    return await Guard(settings.webhooks_allow, resolve_host).check(body.url)


def _sealer(settings: SettingsDep) -> Sealer:
    return sealer_of(settings)


# named before the session, and so resolved before it
CheckedUrl = Annotated[str, Depends(_checked)]
SealerDep = Annotated[Sealer, Depends(_sealer)]
CheckedChange = Annotated[str | None, Depends(_checked_change)]


@router.post(
    "/webhook-endpoints", status_code=201, responses=problems(Conflict, NotFound, Unavailable)
)
async def create_webhook_endpoint(
    body: EndpointIn,
    url: CheckedUrl,
    who: Partner,
    sealer: SealerDep,
    session: TenantSession,
    now: NowDep,
) -> NewSecretOut:
    """Where a partner is told what happens to its offers, coupons and redemptions. The answer holds
    the secret that signs, and nothing shows it again.
    """
    row, secret = await service.create_endpoint(
        session,
        actor=who.actor,
        own_partner_id=who.partner_id,
        partner=body.partner,
        url=url,
        events=body.events,
        description=body.description,
        sealer=sealer,
        now=now,
    )
    return NewSecretOut.with_secret(row, secret)


@router.get("/webhook-endpoints", responses=problems(NotFound))
async def list_webhook_endpoints(
    _who: Partner,
    session: TenantSession,
    paging: PagingDep,
    partner: Annotated[PartnerRefOrId | None, Query(description="ref or id")] = None,
) -> Page[EndpointOut]:
    """The oldest first; a partner is shown its own."""
    rows = await service.list_endpoints(
        session, partner=partner, after=paging.after, limit=paging.limit + 1
    )
    return make_page(rows, paging, show=EndpointOut.of, row_id=lambda row: row.endpoint.id)


@router.get("/webhook-endpoints/{endpoint_id}", responses=problems(NotFound))
async def get_webhook_endpoint(
    endpoint_id: UUID, _who: Partner, session: TenantSession
) -> EndpointOut:
    """As it stands; never its secret."""
    return EndpointOut.of(await service.get_endpoint(session, endpoint_id=endpoint_id))


@router.patch("/webhook-endpoints/{endpoint_id}", responses=problems(NotFound))
async def change_webhook_endpoint(
    endpoint_id: UUID,
    body: EndpointChange,
    url: CheckedChange,
    who: Partner,
    session: TenantSession,
    now: NowDep,
) -> EndpointOut:
    """What is queued while an endpoint is disabled is sent when it is enabled again; what happens
    meanwhile is not told to it.
    """
    changes = body.model_dump(exclude_unset=True)
    if url is not None:
        changes["url"] = url
    row = await service.change_endpoint(
        session, actor=who.actor, endpoint_id=endpoint_id, changes=changes, now=now
    )
    return EndpointOut.of(row)


@router.delete("/webhook-endpoints/{endpoint_id}", status_code=204, responses=problems(NotFound))
async def delete_webhook_endpoint(
    endpoint_id: UUID, who: Partner, session: TenantSession, now: NowDep
) -> None:
    """Nothing more is sent to it, and its deliveries are forgotten."""
    await service.delete_endpoint(session, actor=who.actor, endpoint_id=endpoint_id, now=now)


@router.post(
    "/webhook-endpoints/{endpoint_id}/rotate-secret", responses=problems(NotFound, Unavailable)
)
async def rotate_webhook_secret(
    endpoint_id: UUID,
    who: Partner,
    sealer: SealerDep,
    session: TenantSession,
    now: NowDep,
) -> NewSecretOut:
    """A new secret, shown this once. The old one signs along for 24 hours, so that each delivery
    carries two signatures meanwhile.
    """
    row, secret = await service.rotate_secret(
        session,
        actor=who.actor,
        endpoint_id=endpoint_id,
        sealer=sealer,
        now=now,
    )
    return NewSecretOut.with_secret(row, secret)


@router.post(
    "/webhook-endpoints/{endpoint_id}/test", status_code=201, responses=problems(Conflict, NotFound)
)
async def send_test_webhook(
    endpoint_id: UUID, _who: Partner, session: TenantSession, now: NowDep
) -> DeliveryOut:
    """Queues a `webhook.test` for it, whatever events it is set to; `GET /v1/webhook-deliveries`
    shows what became of it.
    """
    return DeliveryOut.of(await service.send_test(session, endpoint_id=endpoint_id, now=now))


@router.post("/webhook-endpoints/{endpoint_id}/replay", responses=problems(Conflict, NotFound))
async def replay_webhook_range(
    endpoint_id: UUID, body: ReplayIn, _who: Partner, session: TenantSession, now: NowDep
) -> ReplayedOut:
    """Sends again, under the same ids, all that was announced from `since` on and before `until`,
    delivered or not. Of what lies further back than deliveries are kept, nothing is left.
    """
    replayed = await service.replay_range(
        session, endpoint_id=endpoint_id, since=body.since, until=body.until, now=now
    )
    return ReplayedOut(replayed=replayed)


@router.get("/webhook-deliveries")
async def list_webhook_deliveries(
    _who: Partner,
    session: TenantSession,
    paging: PagingDep,
    endpoint: UUID | None = None,
    event: EventName | Literal["webhook.test"] | None = None,
    state: DeliveryState | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
) -> Page[DeliveryOut]:
    """The oldest first, by the time they were announced: from `since` on and before `until`."""
    rows = await service.list_deliveries(
        session,
        after=paging.after,
        limit=paging.limit + 1,
        endpoint_id=endpoint,
        event=event,
        state=state,
        since=since,
        until=until,
    )
    return make_page(rows, paging, show=DeliveryOut.of, row_id=lambda row: row.id)


@router.post("/webhook-deliveries/{delivery_id}/replay", responses=problems(Conflict, NotFound))
async def replay_webhook_delivery(
    delivery_id: UUID, _who: Partner, session: TenantSession, now: NowDep
) -> DeliveryOut:
    """Sends it again, under its id, and tries for another day."""
    return DeliveryOut.of(await service.replay(session, delivery_id=delivery_id, now=now))
