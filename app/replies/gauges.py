"""What a dashboard shows of sending, read when it is asked for."""

from datetime import datetime

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.months import Month
from app.replies import sending, window_queries

_spent = Gauge(
    "tagback_spent_microusd",
    "What the network has charged this month, in millionths of a US dollar",
    ["network"],
)
_stopped = Gauge(
    "tagback_replies_stopped",
    "1 while the network, or a ceiling, lets nothing or not all be sent",
    ["network", "channel", "by"],
)


async def renew(session: AsyncSession, *, now: datetime) -> None:
    networks = set()
    for window in await window_queries.read_windows(session):
        networks.add(window.network)
        reasons = {"network": window.stopped_reason, "ceiling": window.held_reason}
        for by, reason in reasons.items():
            _stopped.labels(window.network, window.channel, by).set(reason is not None)
    for network in networks:
        spent = await sending.spent_in(session, network=network, month=Month.of(now))
        _spent.labels(network).set(spent.all)
