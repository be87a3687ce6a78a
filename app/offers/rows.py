"""An offer as it is written and as it is stored: what `OfferIn` says, in columns, and back."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from app.kit.hashtags import tag_key
from app.offers.models import Offer, OfferCounter, OfferVersion
from app.offers.schemas import DAYS, FixedReward, OfferIn, ShareReward

Columns = Mapping[str, Any]


def offer_columns(offer: OfferIn) -> Columns:
    return {
        "hashtag": offer.hashtag,
        "tag_key": tag_key(offer.hashtag),
        "starts_at": offer.starts_at,
        "ends_at": offer.ends_at,
        "currency": offer.currency,
        "objective": None if offer.objective is None else offer.objective.model_dump(mode="json"),
    }


def version_columns(offer: OfferIn, acceptor_ids: list[UUID] | None) -> Columns:
    reward, hours = offer.reward, offer.hours
    return {
        "title": offer.title,
        "time_zone": offer.time_zone,
        "fixed_minor": reward.fixed_minor if isinstance(reward, FixedReward) else None,
        "basis_points": reward.basis_points if isinstance(reward, ShareReward) else None,
        "max_minor": reward.max_minor if isinstance(reward, ShareReward) else None,
        "min_spend_minor": offer.min_spend_minor,
        "channel": offer.channel,
        "acceptor_ids": acceptor_ids,
        "days": None if offer.days is None else sorted({DAYS.index(day) + 1 for day in offer.days}),
        "hours_from": None if hours is None else hours.from_,
        "hours_to": None if hours is None else hours.to,
        "coupon_valid_days": offer.coupon_valid_days,
        "coupon_last_day": offer.coupon_last_day,
        "redemptions_per_coupon": offer.redemptions_per_coupon,
        "audience": None
        if offer.audience is None
        else offer.audience.model_dump(exclude_none=True),
        "refund_policy": offer.refund_policy,
    }


def counter_columns(offer: OfferIn) -> Columns:
    return {"coupons_max": offer.coupons_max, "budget_minor": offer.budget_minor}


def differences(row: Offer | OfferVersion | OfferCounter, columns: Columns) -> dict[str, Any]:
    """What of the columns the row has otherwise."""
    return {name: value for name, value in columns.items() if getattr(row, name) != value}


def written_terms(version: OfferVersion) -> dict[str, Any]:
    """In the names of `OfferIn`, but for the acceptors, who are ids here."""
    reward: dict[str, int | None]
    if version.fixed_minor is not None:
        reward = {"fixed_minor": version.fixed_minor}
    else:
        reward = {"basis_points": version.basis_points, "max_minor": version.max_minor}
    hours = None
    if version.hours_from is not None:
        hours = {"from": version.hours_from, "to": version.hours_to}
    return {
        "title": version.title,
        "time_zone": version.time_zone,
        "reward": reward,
        "min_spend_minor": version.min_spend_minor,
        "channel": version.channel,
        "days": None if version.days is None else [DAYS[day - 1] for day in version.days],
        "hours": hours,
        "coupon_valid_days": version.coupon_valid_days,
        "coupon_last_day": version.coupon_last_day,
        "redemptions_per_coupon": version.redemptions_per_coupon,
        "audience": version.audience,
        "refund_policy": version.refund_policy,
    }


def written(offer: Offer, version: OfferVersion, counter: OfferCounter) -> dict[str, Any]:
    """What `OfferIn` takes, but for the acceptors."""
    return {
        **written_terms(version),
        "offer_ref": offer.ref,
        "hashtag": offer.hashtag,
        "starts_at": offer.starts_at.isoformat(),
        "ends_at": offer.ends_at.isoformat(),
        "currency": offer.currency,
        "coupons_max": counter.coupons_max,
        "budget_minor": counter.budget_minor,
        "objective": offer.objective,
    }
