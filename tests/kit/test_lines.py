import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from app.kit.lines import LINE_BYTES_MAX, BadLine, FileError, Line, read_lines


def read(data: bytes, name: str = "file.ndjson") -> list[Line | BadLine]:
    return list(read_lines(io.BufferedReader(io.BytesIO(data)), name=name))


def rows(data: str | bytes, name: str = "file.csv") -> list[dict[str, Any]]:
    found = read(data if isinstance(data, bytes) else data.encode(), name)
    assert all(isinstance(line, Line) for line in found), found
    return [json.loads(line.raw) for line in found]


class TestADocumentOverSeveralLines:
    def test_is_one_line(self) -> None:
        assert rows('{\n "a": {\n  "b": 1\n }\n}\n', "event.json") == [{"a": {"b": 1}}]

    def test_is_a_line_for_each_item_of_a_list(self) -> None:
        assert rows('[\n {"a": 1},\n {"a": 2}\n]', "-") == [{"a": 1}, {"a": 2}]

    def test_that_is_none_stops_no_other_line(self) -> None:
        assert read(b'{\n{"a": 1}\n\n{"a": 2}\n') == [
            Line(1, b"{"), Line(2, b'{"a": 1}'), Line(4, b'{"a": 2}')
        ]  # fmt: skip


class TestNdjson:
    def test_is_numbered_lines_as_they_are(self) -> None:
        assert read(b'{"a": 1}\n{bad\r\n') == [Line(1, b'{"a": 1}'), Line(2, b"{bad")]

    def test_has_blank_lines_that_are_counted_and_not_read(self) -> None:
        assert read(b"\n1\n  \r\n2") == [Line(2, b"1"), Line(4, b"2")]

    def test_may_begin_with_a_byte_order_mark(self) -> None:
        assert read(b"\xef\xbb\xbf{}\n") == [Line(1, b"{}")]

    def test_may_be_empty(self) -> None:
        assert read(b"") == []

    def test_may_be_gzipped_whatever_its_name(self) -> None:
        assert read(gzip.compress(b"1\n2\n"), "-") == [Line(1, b"1"), Line(2, b"2")]

    def test_may_be_gzipped_in_several_members(self) -> None:
        assert len(read(gzip.compress(b"1\n") + gzip.compress(b"2\n"))) == 2

    def test_takes_a_line_of_the_longest_length(self) -> None:
        longest = b"x" * LINE_BYTES_MAX
        assert read(longest + b"\n" + longest) == [Line(1, longest), Line(2, longest)]

    def test_rejects_a_longer_one_and_reads_on(self) -> None:
        too_long = b"x" * (LINE_BYTES_MAX + 1)
        found = read(b"1\n" + too_long + b"\n3\n" + too_long)
        assert [line.number for line in found] == [1, 2, 3, 4]
        assert [isinstance(line, BadLine) for line in found] == [False, True, False, True]
        assert {line.reason for line in found if isinstance(line, BadLine)} == {"line too long"}

    def test_does_not_hold_a_line_that_is_too_long(self) -> None:
        data = gzip.compress(b"x" * (50 * LINE_BYTES_MAX) + b"\n2\n")
        tracemalloc.start()
        found = read(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert [line.number for line in found] == [1, 2]
        assert peak_bytes < 5 * LINE_BYTES_MAX

    @pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:20] + b"????"])
    def test_that_is_damaged_gzip_is_said_to_be(self, damage: Callable[[bytes], bytes]) -> None:
        data = gzip.compress(b"".join(b'{"n": %d}\n' % number for number in range(1_000)))
        with pytest.raises(FileError, match="gzip"):
            read(damage(data))


class TestCsv:
    def test_becomes_objects_by_dotted_names(self) -> None:
        data = "member_ref,card.card_ref,card.last4\nm-1,c-1,0042\n"
        assert rows(data) == [{"member_ref": "m-1", "card": {"card_ref": "c-1", "last4": "0042"}}]

    def test_leaves_out_empty_cells_and_empty_objects(self) -> None:
        assert rows("a,b.c,b.d\n1,,\n") == [{"a": "1"}]

    def test_takes_a_row_of_empty_cells_for_a_blank_line(self) -> None:
        assert rows("a,b\n1,2\n,\n3,4\n") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]

    def test_keeps_quotes_commas_and_line_breaks_in_cells(self) -> None:
        data = b'a,b\r\n"x, ""y""","two\r\nlines"\r\n1,2\r\n'
        assert [line.number for line in read(data, "f.csv")] == [2, 4]
        assert rows(data) == [{"a": 'x, "y"', "b": "two\nlines"}, {"a": "1", "b": "2"}]

    def test_holds_lists_and_objects_as_json(self) -> None:
        data = 'a,b,c\n"[1, 2]","{""x"": 1}",[solidcore]\n'
        assert rows(data) == [{"a": [1, 2], "b": {"x": 1}, "c": "[solidcore]"}]

    def test_is_known_by_its_header_where_there_is_no_name(self) -> None:
        assert rows("member_ref,card.card_ref\nm,c\n", "-") == [
            {"member_ref": "m", "card": {"card_ref": "c"}}
        ]

    def test_is_not_seen_in_a_bad_line_of_json(self) -> None:
        assert read(b"oh, no: this\n{}\n", "-") == [Line(1, b"oh, no: this"), Line(2, b"{}")]

    def test_rejects_rows_of_another_length_and_reads_on(self) -> None:
        found = read(b"a,b\n1\n1,2\n1,2,3\n", "f.csv")
        assert [line.number for line in found] == [2, 3, 4]
        assert [getattr(line, "reason", None) for line in found] == [
            "1 cells under 2 names",
            None,
            "3 cells under 2 names",
        ]

    def test_rejects_a_row_that_is_not_utf_8_and_reads_on(self) -> None:
        found = read(b"a,b\ncaf\xe9,1\ncaf\xc3\xa9,2\n", "f.csv")
        assert isinstance(found[0], BadLine)
        assert found[0].reason == "not UTF-8"
        assert json.loads(found[1].raw) == {"a": "café", "b": "2"}

    def test_rejects_a_line_that_is_too_long_and_reads_on(self) -> None:
        found = read(b"a,b\n" + b"x" * (LINE_BYTES_MAX + 9) + b",1\n1,2\n", "f.csv")
        assert [line.number for line in found] == [2, 3]
        assert isinstance(found[0], BadLine)

    def test_rejects_a_quote_that_does_not_end(self) -> None:
        found = read(b'a,b\n"' + b"x\n" * 200_000 + b"1,2\n", "f.csv")
        assert isinstance(found[0], BadLine)
        assert found[0].reason.startswith("not CSV")

    @pytest.mark.parametrize("header", ["a,a", "a,", "a,a.b", "a..b,c", "\xe9"])
    def test_with_a_senseless_header_is_no_file(self, header: str) -> None:
        with pytest.raises(FileError, match="header"):
            read(f"{header}\n1,2\n".encode("latin-1"), "f.csv")

    def test_may_begin_with_a_byte_order_mark(self) -> None:
        assert rows(b"\xef\xbb\xbfa,b\n1,2\n") == [{"a": "1", "b": "2"}]
