"""Signing in with X: authorization code with PKCE. Codes and access tokens live in memory, by the
stand-in's clock; nothing keeps a token, only its SHA-256.
"""

import base64
import hashlib
import secrets
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from app.sandbox.hosts import on_this_machine
from app.sandbox.problems import Refusal
from app.sandbox.records import AccessToken, Code, Entry, Grant
from app.sandbox.state import State

CODE_SECONDS = 30
ACCESS_SECONDS = 2 * 60 * 60
STATE_LENGTH_MAX = 500
OFFLINE = "offline.access"
_CODES_KEPT_MAX = 10_000

# X's scopes and its words for them.
SCOPE_MEANINGS = {
    "block.read": "View accounts you have blocked.",
    "bookmark.read": "Read your bookmarked Posts.",
    "bookmark.write": "Create and delete your bookmarks.",
    "dm.read": "Read all your Direct Messages.",
    "dm.write": "Send and manage your Direct Messages.",
    "follows.read": "View accounts you follow and accounts following you.",
    "follows.write": "Follow and unfollow accounts on your behalf.",
    "like.read": "View Posts you have liked and likes you can see.",
    "like.write": "Like and unlike Posts on your behalf.",
    "list.read": "View Lists, members, and followers of Lists you created or are a member of.",
    "list.write": "Create and manage Lists on your behalf.",
    "media.write": "Upload media, such as photos and videos, on your behalf.",
    "mute.read": "View accounts you have muted.",
    "mute.write": "Mute and unmute accounts on your behalf.",
    "offline.access": "Stay connected to your account until you revoke access.",
    "space.read": "View all Spaces you have access to.",
    "timeline.read": "View all Custom Timelines you can see.",
    "tweet.moderate.write": "Hide and unhide replies to your Posts.",
    "tweet.read": "View all Posts you can see, including those from protected accounts.",
    "tweet.write": "Post and repost on your behalf.",
    "users.read": "View any account you can see, including protected accounts.",
}
SCOPES = frozenset(SCOPE_MEANINGS)


class OAuthError(Refusal):
    """A refusal in OAuth's own shape, worded as X words it."""

    def __init__(
        self, description: str, *, error: str = "invalid_request", status: int = 400
    ) -> None:
        body = {"error": error, "error_description": description}
        super().__init__(status, body, "application/json")


def redirect_allowed(state: State, redirect_uri: str) -> bool:
    if registered := state.settings.redirect_uris:
        return redirect_uri in registered
    try:
        parts = urlsplit(redirect_uri)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and on_this_machine(parts.hostname or "")


def allow(
    state: State, *, user_id: str, redirect_uri: str, scopes: tuple[str, ...], challenge: str
) -> str:
    """The code with which the app fetches its tokens."""
    while len(state.codes) >= _CODES_KEPT_MAX:
        del state.codes[next(iter(state.codes))]
    code = secrets.token_urlsafe(60)
    state.codes[_digest(code)] = Code(
        user_id=user_id,
        redirect_uri=redirect_uri,
        scopes=scopes,
        challenge=challenge,
        expires_at=state.clock() + CODE_SECONDS,
    )
    return code


def exchange_code(state: State, *, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
    """A code is used up by the first try, whatever comes of it."""
    found = state.codes.pop(_digest(code), None)
    if found is None or state.clock() >= found.expires_at:
        raise OAuthError("Value passed for the authorization code was invalid.")
    if redirect_uri != found.redirect_uri:
        raise OAuthError("Value passed for the redirect uri did not match the uri of the code.")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    if not compare_digest(challenge, found.challenge.encode()):
        raise OAuthError("Value passed for the code verifier did not match the code challenge.")
    return _issue(state, Grant(id=state.new_id(), user_id=found.user_id, scopes=found.scopes))


def refresh(state: State, token: str) -> dict[str, Any]:
    """The token given is dead from now on; access tokens live to their end."""
    grant_id = state.grant_ids_by_refresh.get(_digest(token))
    if grant_id is None:
        raise OAuthError("Value passed for the token was invalid.")
    return _issue(state, state.grants[grant_id])


def find_grant(state: State, access_token: str) -> Grant | None:
    found = state.access_tokens.get(_digest(access_token))
    if found is None or state.clock() >= found.expires_at:
        return None
    return state.grants.get(found.grant_id)


def revoke(state: State, token: str) -> None:
    """Ends the grant that an access or a refresh token is of, and with it all its tokens."""
    digest = _digest(token)
    access = state.access_tokens.get(digest)
    grant_id = access.grant_id if access else state.grant_ids_by_refresh.get(digest)
    if grant_id in state.grants:
        state.record(Entry(grant_ended=grant_id))


def revoke_all(state: State, user_id: str) -> int:
    """What a person does who disconnects the app: the number of grants ended."""
    ended = [grant.id for grant in state.grants.values() if grant.user_id == user_id]
    for grant_id in ended:
        state.record(Entry(grant_ended=grant_id))
    return len(ended)


def _issue(state: State, grant: Grant) -> dict[str, Any]:
    now = state.clock()
    access_token = secrets.token_urlsafe(60)
    for digest in [d for d, known in state.access_tokens.items() if known.expires_at <= now]:
        del state.access_tokens[digest]
    state.access_tokens[_digest(access_token)] = AccessToken(grant.id, now + ACCESS_SECONDS)
    answer: dict[str, Any] = {
        "token_type": "bearer",
        "expires_in": ACCESS_SECONDS,
        "access_token": access_token,
        "scope": " ".join(grant.scopes),
    }
    if OFFLINE in grant.scopes:
        refresh_token = secrets.token_urlsafe(60)
        answer["refresh_token"] = refresh_token
        grant = replace(grant, refresh_digest=_digest(refresh_token))
    state.record(Entry(grant=grant))
    return answer


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
