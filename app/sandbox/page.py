"""The timeline as a person sees it, with a form to post by hand."""

from html import escape
from itertools import islice
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.sandbox import look
from app.sandbox.delivery import Sandbox
from app.sandbox.people import person_by_handle
from app.sandbox.posts import NewPost, make_post
from app.sandbox.records import Entry, Post
from app.sandbox.state import State
from app.sandbox.web import SandboxDep, read_form

router = APIRouter()

_POSTS_SHOWN = 50
_HANDLES_OFFERED = 50

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
    """The form of the page: `handle` (a new one makes a new person) and `text`."""
    form = await read_form(request)
    handle = form.get("handle", "").strip().removeprefix("@")
    text = form.get("text", "").replace("\r\n", "\n").strip()
    state = sandbox.state
    try:
        post = make_post(state, NewPost(author_id=person_by_handle(state, handle), text=text))
    except ValueError as error:
        page = _page(sandbox, handle=handle, text=text, problem=str(error))
        return HTMLResponse(page, 400)
    state.record(Entry(post=post))
    await sandbox.publish(post)
    return RedirectResponse(f"/?{urlencode({'handle': handle})}", 303)


def _page(
    sandbox: Sandbox, *, before: str = "", handle: str = "", text: str = "", problem: str = ""
) -> str:
    state = sandbox.state
    account = state.settings.handle
    handles = (
        person.handle for person in islice(reversed(state.people.values()), _HANDLES_OFFERED)
    )
    offered = "".join(f'<option value="{escape(name)}">' for name in handles if name != account)
    return look.page(
        "X stand-in",
        f"""<p><small>Not X: a local server that behaves like it. Programme account
 @{escape(account)}, profile {escape(state.settings.profile)}.
 <a href="/sandbox/state">Counts and costs</a> · <a href="/issuer">Issuer</a></small></p>
<form method="post" action="/sandbox/post-by-hand">
{look.alert(f"Not posted: {problem}." if problem else "")}
<label>Post as <input name="handle" list="handles" required maxlength="16" autocomplete="off"
 value="{escape(handle)}" placeholder="a handle; a new one makes a new person"></label>
<datalist id="handles">{offered}</datalist>
<label>Text <textarea name="text" rows="3" required
 placeholder="@{escape(account)} #YourOffer">{escape(text)}</textarea></label>
<button>Post</button></form>
<main>{_timeline(state, before)}</main>{_REFRESH}""",
    )


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
