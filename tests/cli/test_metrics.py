"""The metrics of a process that has no API to show them."""

import httpx
import pytest

from app.cli.roles import ServeError, address, metrics_served, open_socket
from app.config import Settings


class TestOfAProcessWithoutTheApi:
    def test_are_shown_where_it_is_told_to(self, settings: Settings) -> None:
        with open_socket("127.0.0.1", 0) as probe:
            url = address(probe)
        told = settings.model_copy(update={"metrics_port": int(url.rpartition(":")[2])})
        with metrics_served(told, ["listener", "worker"]):
            shown = httpx.get(f"{url}/metrics").text
        assert "tagback_stream_lines" in shown
        with metrics_served(told, ["api", "listener"]), pytest.raises(httpx.ConnectError):
            httpx.get(url)

    def test_need_a_port_that_is_free(self, settings: Settings) -> None:
        with open_socket("127.0.0.1", 0) as taken:
            port = taken.getsockname()[1]
            told = settings.model_copy(update={"metrics_port": port})
            with pytest.raises(ServeError, match=f"port {port}"), metrics_served(told, ["worker"]):
                pass
