"""Who takes the lines of `tagback import`: a kind is one line in LOADERS."""

from collections.abc import Awaitable, Callable

from app.config import Settings
from app.kit.db import Sessions
from app.kit.lines import Line, LineResult
from app.members import loader as members
from app.offers import loader as offers
from app.partners import loader as merchants
from app.posts.loader import PostLoader
from app.redemptions import loader as transactions

# One result for each line, in order; commits what it takes before it returns.
Loader = Callable[[Sessions, list[Line]], Awaitable[list[LineResult]]]

LOADERS: dict[str, Callable[[Settings], Loader]] = {
    "members": lambda _settings: members.load,
    "merchants": lambda _settings: merchants.load,
    "offers": lambda _settings: offers.load,
    "posts": lambda settings: PostLoader(settings, source="file"),
    "transactions": lambda _settings: transactions.load,
}
