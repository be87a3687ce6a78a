"""Holds the embedded PostgreSQL of a folder, up to date, until it is told to stop or killed.

`python -m tests.kills.keeper FOLDER` prints the URL of the engine's role.
"""

import asyncio
import sys
from pathlib import Path

from app.config import Settings
from app.database import locate, upgrade


async def main(folder: Path) -> None:
    database = await locate(Settings(data_dir=folder, database_url=None))
    await upgrade(database)
    # with a host beside the socket's, which settings ask for
    print(database.url.replace("@/", "@localhost/"), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
