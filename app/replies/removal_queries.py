"""All SQL on the answers to posts that were removed from their network."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays


async def rename_posts(
    session: AsyncSession, *, network: str, renamed: Mapping[str, tuple[str, str, str]]
) -> None:
    """`renamed`: the ids of post, root and author that take the place of a post's. An answer that
    still waits is not sent, and which post of ours was an answer is forgotten: it leads to the post
    that it answered.
    """
    names = ("old_ids", "post_ids", "root_ids", "author_ids")
    rows = [(old, *new) for old, new in renamed.items()]
    await session.execute(
        text(
            """
            UPDATE replies r SET post_id = post.post_id, root_id = post.root_id,
                recipient_id = post.author_id, sent_post_id = NULL,
                state = CASE r.state WHEN 'queued' THEN 'expired' ELSE r.state END
            FROM unnest(CAST(:old_ids AS text[]), CAST(:post_ids AS text[]),
                        CAST(:root_ids AS text[]), CAST(:author_ids AS text[]))
                AS post (old_id, post_id, root_id, author_id)
            WHERE r.network = :network AND r.root_id = ANY(CAST(:old_ids AS text[]))
                AND r.post_id = post.old_id
            """
        ),
        {"network": network, **as_arrays(names, rows)},
    )
