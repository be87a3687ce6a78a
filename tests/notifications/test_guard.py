"""Where a delivery may go, whatever a name, a spelling or a redirect says."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.config import Settings, SettingsError, get_settings
from app.kit.db import Sessions
from app.notifications import service
from app.notifications.calling import open_caller
from app.notifications.domain import Answer
from app.notifications.guard import Guard, UnsafeAddress, is_public, resolve_host
from tests.notifications.receiving import LOOPBACK, Post, answering, post_office, receiving
from tests.programme import NOW

PUBLIC = "93.184.216.34"
NOBODY = Guard((), resolve_host)
BODY = b"{}"


class TestALookup:
    async def test_that_lasts_holds_up_nothing_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Such as is asked for by who has a slow name server."""
        over = threading.Event()

        def slow(*_given: object, **_more: object) -> list[object]:
            over.wait(60)
            return []

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        lookups = [asyncio.create_task(resolve_host("slow.example")) for _ in range(100)]
        try:
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await asyncio.to_thread(str)
        finally:
            over.set()
            await asyncio.gather(*lookups)


class TestAnAddress:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.9",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "203.0.113.5",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2002:5db8:d822::1",
            "2001:0:5ef5:79fd::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "ff02::1",
        ],
    )
    def test_is_not_public(self, address: str) -> None:
        assert not is_public(ip_address(address))

    @pytest.mark.parametrize(
        "address",
        [PUBLIC, "1.1.1.1", "2606:4700::1111", f"::ffff:{PUBLIC}", f"64:ff9b::{PUBLIC}"],
    )
    def test_is_public(self, address: str) -> None:
        assert is_public(ip_address(address))


class TestAUrl:
    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("https://localhost/hooks", "not public"),
            ("https://127.0.0.1/hooks", "not public"),
            ("https://127.1/hooks", "not public"),
            ("https://2130706433/hooks", "not public"),
            ("https://0x7f000001/hooks", "not public"),
            ("https://0177.0.0.1/hooks", "not a URL"),
            ("https://[::1]:8443/hooks", "not public"),
            ("https://[::ffff:169.254.169.254]/latest", "not public"),
            ("https://①②⑦.0.0.1/hooks", "not"),
            (f"http://{PUBLIC}/hooks", "use https"),
            (f"https://user:word@{PUBLIC}/hooks", "without a user"),
            (f"https://user@{PUBLIC}/hooks", "without a user"),
            (f"https://{PUBLIC}/hooks#part", "fragment"),
            ("ftp://shop.example/hooks", "https://shop.example/hooks"),
            ("file:///etc/passwd", "https://shop.example/hooks"),
            ("https:///hooks", "https://shop.example/hooks"),
            ("shop.example/hooks", "https://shop.example/hooks"),
            ("https://[::1/hooks", "not a URL"),
            ("https://shop.example:99999999/hooks", "not"),
            (f"https://{'a' * 70}.example/hooks", "not"),
            (f"https://{PUBLIC}/{'a' * 2_048}", "2048 characters"),
        ],
    )
    async def test_is_refused_and_told_why(self, url: str, why: str) -> None:
        with pytest.raises(UnsafeAddress, match=why):
            await NOBODY.check(url)

    @pytest.mark.parametrize(
        "url",
        [f"https://{PUBLIC}/hooks?shop=1", f"https://{PUBLIC}:8443/", "https://[2606:4700::1]/"],
    )
    async def test_that_is_https_and_public_may_have_any_port_and_query(self, url: str) -> None:
        assert await NOBODY.check(url) == url

    @pytest.mark.parametrize(
        "addresses",
        [[PUBLIC, "10.0.0.1"], ["2606:4700::1", "::1"], ["10.0.0.1"], []],
        ids=["one-of-two", "one-of-two-v6", "private", "none"],
    )
    async def test_is_refused_if_any_address_of_its_host_is(self, addresses: list[str]) -> None:
        with pytest.raises(UnsafeAddress):
            await Guard((), answering(addresses)).check("https://shop.example/hooks")

    async def test_goes_where_the_operator_allows_and_there_by_http_too(self) -> None:
        guard = Guard((ip_network("10.0.0.0/8"),), answering(["10.1.1.1", "::ffff:10.1.1.2"]))
        for url in ("http://hooks.internal/", "https://hooks.internal/"):
            assert await guard.check(url) == url
        mixed = guard._replace(resolve=answering(["10.1.1.1", PUBLIC]))
        with pytest.raises(UnsafeAddress, match="use https"):
            await mixed.check("http://hooks.internal/")

    @pytest.mark.usefixtures("settings")
    def test_is_allowed_by_a_setting_that_is_named_when_it_is_malformed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        get_settings.cache_clear()
        monkeypatch.setenv("TAGBACK_WEBHOOKS_ALLOW", "127.0.0.0/8, fd00::/8")
        allowed = (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
        assert get_settings().webhooks_allow == allowed
        get_settings.cache_clear()
        monkeypatch.setenv("TAGBACK_WEBHOOKS_ALLOW", "127.0.0.1/8")
        with pytest.raises(SettingsError, match="TAGBACK_WEBHOOKS_ALLOW"):
            get_settings()
        get_settings.cache_clear()


class TestACall:
    async def test_is_judged_again_whatever_the_name_meant_before(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        """A name that was public when it was registered means this machine now."""
        async with receiving() as secret_service:
            port = secret_service.url.rpartition(":")[2]
            resolve = answering([PUBLIC], ["127.0.0.1"])
            url = await Guard((), resolve).check(f"https://shop.example:{port}")
            async with post_office(sessions, settings, allowed=(), resolve=resolve) as post:
                await post.endpoint(url)
                await _test(post)
                (answer,) = await post.round(now=NOW)
            assert answer.status is None
            assert "not public" in str(answer.error)
            assert secret_service.paths == []

    async def test_connects_to_the_very_address_that_was_judged(self) -> None:
        """The name is looked up once a call; and each call looks it up, nothing is kept open."""
        asked = []

        async def resolve(host: str) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

        async with (
            receiving() as receiver,
            open_caller(Guard(LOOPBACK, resolve), seconds_max=5) as caller,
        ):
            url = receiver.url.replace("127.0.0.1", "shop.example")
            assert await caller.post(url, headers={}, body=BODY) == Answer(204, None)
            (taken,) = receiver.taken
            assert taken.headers["host"].startswith("shop.example:")
            assert asked == ["shop.example"]
            second = await caller.post(url, headers={}, body=BODY)
            assert "use https" in str(second.error)
            assert len(receiver.taken) == 1

    async def test_goes_on_to_the_next_address_when_one_does_not_answer(self) -> None:
        async with (
            receiving() as receiver,
            open_caller(Guard(LOOPBACK, answering(["::1", "127.0.0.1"])), seconds_max=5) as caller,
        ):
            url = receiver.url.replace("127.0.0.1", "shop.example")
            assert (await caller.post(url, headers={}, body=BODY)).status == 204

    async def test_follows_no_redirect(self) -> None:
        async with receiving() as inner, receiving(statuses=[302]) as outer:
            outer.answer_headers = [(b"location", inner.url.encode())]
            async with open_caller(Guard(LOOPBACK, resolve_host), seconds_max=5) as caller:
                answer = await caller.post(outer.url, headers={}, body=BODY)
            assert (answer.status, inner.paths) == (302, [])

    async def test_heeds_no_proxy_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with receiving() as receiver:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, "http://127.0.0.1:9")
            async with open_caller(Guard(LOOPBACK, resolve_host), seconds_max=5) as caller:
                assert (await caller.post(receiver.url, headers={}, body=BODY)).status == 204

    async def test_by_https_is_to_the_name_and_not_to_the_address(self, tmp_path: Path) -> None:
        trusted, resolve = _trusting(tmp_path, "shop.example"), answering(["127.0.0.1"])
        async with (
            _tls_receiver(tmp_path) as port,
            open_caller(Guard(LOOPBACK, resolve), seconds_max=5, tls=trusted) as caller,
        ):
            url = f"https://shop.example:{port}/hooks"
            assert await caller.post(url, headers={}, body=BODY) == Answer(204, None)
            other = await caller.post(f"https://other.example:{port}/", headers={}, body=BODY)
            assert "CERTIFICATE_VERIFY_FAILED" in str(other.error)

    @pytest.mark.parametrize(
        "said",
        [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000],
        ids=["nothing", "nonsense", "cut-off", "endless-header"],
    )
    async def test_that_is_not_answered_in_http_has_failed(self, said: bytes) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(said)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, open_caller(Guard(LOOPBACK, resolve_host), seconds_max=5) as caller:
            found = await caller.post(f"http://127.0.0.1:{port}/", headers={}, body=BODY)
        assert found.status is None
        assert found.error

    async def test_that_is_answered_without_end_is_read_no_further(self) -> None:
        """A body that never stops, and whose sender waits for us to read it."""
        sent = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.read(100)
            writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 1000000000\r\n\r\n")
            try:
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
                    sent += 65_536
            except ConnectionError:
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, open_caller(Guard(LOOPBACK, resolve_host), seconds_max=5) as caller:
            found = await caller.post(f"http://127.0.0.1:{port}/", headers={}, body=BODY)
        assert found.status == 500
        assert len(str(found.error)) < 300
        assert sent < 50_000_000


async def _test(post: Post) -> None:
    async with post.sessions.begin() as session:
        (row,) = await service.list_endpoints(session, partner=None, after=None, limit=2)
        await service.send_test(session, endpoint_id=row.endpoint.id, now=NOW)


def _trusting(folder: Path, name: str) -> ssl.SSLContext:
    """Trusts the one certificate that it makes for that name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return ssl.create_default_context(cafile=folder / "cert.pem")


@asynccontextmanager
async def _tls_receiver(folder: Path) -> AsyncIterator[int]:
    """Its port. Says 204 to whatever comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
