from pathlib import Path
from typing import BinaryIO

import msgspec

from app.sandbox.records import Entry

_decoder = msgspec.json.Decoder(Entry)


class Journal:
    """Entries in an NDJSON file, each appended by one unbuffered write: a crash loses at most the
    line being written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def read(self) -> list[Entry]:
        """A torn last line is cut off, so that the next one starts clean; a bad line anywhere else
        is a ValueError that names it.
        """
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            with self._path.open("r+b") as file:
                file.truncate(sum(map(len, lines[:-1])))
            del lines[-1]
        entries = []
        for number, line in enumerate(lines, start=1):
            try:
                entries.append(_decoder.decode(line))
            except ValueError as error:
                raise ValueError(f"{self._path}, line {number}: {error}") from error
        return entries

    def append(self, entry: Entry) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
        self._file.write(msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        if self._file:
            self._file.close()
