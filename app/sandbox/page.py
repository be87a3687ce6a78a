"""The timeline as a person sees it, with a form to post by hand."""

import re
from html import escape
from itertools import islice
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.sandbox.delivery import Sandbox
from app.sandbox.gate import SandboxDep
from app.sandbox.posts import NewPost, make_post
from app.sandbox.records import Entry, Post
from app.sandbox.state import State

router = APIRouter()

_POSTS_SHOWN = 50
_HANDLES_OFFERED = 50
_FORM_BYTES_MAX = 100_000
_HANDLE = re.compile("[A-Za-z0-9_]{1,15}")

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>X stand-in</title>
<style>
 body{font:16px/1.45 system-ui,sans-serif;max-width:38rem;margin:0 auto;padding:0 1rem 3rem;
  color:#0f1419;background:#fff;color-scheme:light dark}
 a{color:#1d9bf0}
 article{border-top:1px solid #cfd9de;padding:.7rem 0}
 article article{border:0;border-left:3px solid #1d9bf0;margin:.5rem 0 0;
  padding:.1rem 0 .1rem .8rem}
 p{margin:.15rem 0;white-space:pre-wrap;overflow-wrap:anywhere} small,time{color:#536471}
 input,textarea,button{font:inherit;width:100%;box-sizing:border-box;margin:.2rem 0;padding:.5rem;
  border:1px solid #8b98a5;border-radius:.4rem;background:inherit;color:inherit}
 button{background:#0f1419;color:#fff;border:0;border-radius:2rem}
 [role=alert]{color:#b00020}
 @media (prefers-color-scheme:dark){body{background:#15202b;color:#e7e9ea}
  small,time{color:#8b98a5} article{border-color:#38444d} button{background:#e7e9ea;color:#15202b}
  [role=alert]{color:#ff8a94}}
</style>"""

# Answers come in after the page has been sent; without scripts one reloads by hand.
_REFRESH = """<script>setInterval(async () => {
 const answer = await fetch(location.pathname + location.search).catch(() => null);
 if (!answer?.ok) return;
 const page = new DOMParser().parseFromString(await answer.text(), "text/html");
 document.querySelector("main").replaceWith(page.querySelector("main"));
}, 2000)</script>"""


@router.get("/")
async def timeline(sandbox: SandboxDep, before: str = "", handle: str = "") -> Response:
    return HTMLResponse(_page(sandbox, before=before, handle=handle))


@router.post("/sandbox/post-by-hand")
async def post_by_hand(request: Request, sandbox: SandboxDep) -> Response:
    """A handle that nobody has makes a new person."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES_MAX:
            return HTMLResponse("Too long", 413)
    form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    handle = form.get("handle", "").strip().removeprefix("@")
    text = form.get("text", "").replace("\r\n", "\n").strip()
    state = sandbox.state
    try:
        post = make_post(state, NewPost(author_id=_person_id(state, handle), text=text))
    except ValueError as error:
        page = _page(sandbox, handle=handle, text=text, problem=str(error))
        return HTMLResponse(page, 400)
    state.record(Entry(post=post))
    await sandbox.publish(post)
    return RedirectResponse(f"/?{urlencode({'handle': handle})}", 303)


def _person_id(state: State, handle: str) -> str:
    if known := state.ids_by_handle.get(handle.lower()):
        return known
    if not _HANDLE.fullmatch(handle):
        raise ValueError("a handle is 1 to 15 letters, digits or underscores")
    person = state.new_person(handle)
    state.record(Entry(person=person))
    return person.id


def _page(
    sandbox: Sandbox, *, before: str = "", handle: str = "", text: str = "", problem: str = ""
) -> str:
    state = sandbox.state
    account = state.settings.handle
    handles = (
        person.handle for person in islice(reversed(state.people.values()), _HANDLES_OFFERED)
    )
    offered = "".join(f'<option value="{escape(name)}">' for name in handles if name != account)
    return f"""{_HEAD}<h1>X stand-in</h1>
<p><small>Not X: a local server that behaves like it. Programme account @{escape(account)},
 profile {escape(state.settings.profile)}. <a href="/sandbox/state">Counts and costs</a></small></p>
<form method="post" action="/sandbox/post-by-hand">
{f'<p role="alert">Not posted: {escape(problem)}.</p>' if problem else ""}
<label>Post as <input name="handle" list="handles" required maxlength="16" autocomplete="off"
 value="{escape(handle)}" placeholder="a handle; a new one makes a new person"></label>
<datalist id="handles">{offered}</datalist>
<label>Text <textarea name="text" rows="3" required
 placeholder="@{escape(account)} #YourOffer">{escape(text)}</textarea></label>
<button>Post</button></form>
<main>{_timeline(state, before)}</main>{_REFRESH}</html>"""


def _timeline(state: State, before: str) -> str:
    """Newest first in the order of arrival; a reply of the programme stands under its post."""
    posts = (post for post in reversed(state.posts.values()) if not _stands_under(state, post))
    if before:
        for post in posts:
            if post.id == before:
                break
    shown = list(islice(posts, _POSTS_SHOWN + 1))
    if not shown:
        return "<p>No posts yet.</p>"
    older = ""
    if len(shown) > _POSTS_SHOWN:
        shown.pop()
        older = f'<p><a href="/?before={escape(shown[-1].id)}">Older</a></p>'
    return "".join(_article(state, post) for post in shown) + older


def _stands_under(state: State, post: Post) -> bool:
    return post.author_id == state.settings.account_id and post.reply_to in state.posts


def _article(state: State, post: Post) -> str:
    person = state.people[post.author_id]
    under = "".join(_article(state, reply) for reply in state.replies_to.get(post.id, ()))
    edited = " · edited" if len(post.history) > 1 else ""
    quoted = state.posts.get(post.quote_of or "")
    quote = f"<small>quoting: {escape(quoted.text)}</small>" if quoted else ""
    at = post.created_at
    return f"""<article id="p{escape(post.id)}"><small><b>{escape(person.name)}</b>
 @{escape(person.handle)} · <time datetime="{at.isoformat()}">{at:%d %b %Y %H:%M} UTC</time>{edited}
</small><p>{escape(post.text)}</p>{quote}{under}</article>"""
