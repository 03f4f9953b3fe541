"""Read rows in a separate process with limited memory and time.

Readers written in C may crash or exhaust the memory if the bytes are malicious: a Parquet file of one kilobyte may
expand to a terabyte. The process writes one JSON list per line:

    ["columns", [name, ...]]   ["row", number, record]   ["refused", number, reason]   ["end"]   ["failed", kind, words]

On Windows and macOS, the memory of the process is not limited.

Python reports opened and listed files, connections and new processes to audit hooks. The process that reads data from
the hub installs a permanent audit hook (`confine`), which refuses those that it does not need. The hook guards against
libraries that access more than necessary, for example by searching the disk for a pattern. It does not confine
untrusted code in the process.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from neftune_core.data.formats.texts import NOT_TEXT, parse_json

HUB_DOMAINS = ("huggingface.co", "hf.co")
SYSTEM = ("/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/dev")
FILES = {"open", "os.listdir", "os.scandir"}
PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}


def hub_hosts() -> set[str]:
    """Return the hosts that a hub reader may reach: those of the hub and of configured proxies."""
    addresses = [os.environ.get("HF_ENDPOINT") or "https://huggingface.co", *getproxies().values()]
    return {host for host in (urlsplit(address).hostname for address in addresses) if host}


def confine(hosts: Collection[str]) -> None:
    """Permanently refuse the reader access to files, hosts and processes that it does not need.

    Files may be opened in the folders of Python, its packages, temporary files and the system. A refused call raises
    `PermissionError`.

    Args:
        hosts: Host names that may be reached, in addition to those in `HUB_DOMAINS`.
    """
    folders = [*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, tempfile.gettempdir(), *filter(None, sys.path)]
    roots = {Path(os.path.realpath(folder)) for folder in folders}
    reachable: set[str] = set()
    getaddrinfo = socket.getaddrinfo

    def recording_getaddrinfo(*arguments: Any, **named: Any) -> Any:
        found = getaddrinfo(*arguments, **named)
        reachable.update(str(entry[4][0]) for entry in found)
        return found

    socket.getaddrinfo = recording_getaddrinfo

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILES:
            _require_inside(arguments[0] if arguments else None, roots)
        elif event == "socket.getaddrinfo":
            _require_host(arguments[0], hosts)
        elif event == "socket.connect":
            address = arguments[1]
            if not isinstance(address, tuple) or str(address[0]) not in reachable:
                raise PermissionError("the reader may not open this connection")
        elif event in PROCESSES:
            raise PermissionError("the reader may not start processes")

    sys.addaudithook(guard)


def _require_inside(path: Any, roots: Collection[Path]) -> None:
    if isinstance(path, int) or path is None:  # already open
        return
    real = Path(os.path.realpath(os.fsdecode(path)))
    if not any(real.is_relative_to(root) for root in roots):
        raise PermissionError("the reader may not open this file")


def _require_host(host: Any, hosts: Collection[str]) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in hosts and not any(name == domain or name.endswith(f".{domain}") for domain in HUB_DOMAINS):
        raise PermissionError("the reader may not connect to this host")


BATCH_ROWS = 256
PIECE_BYTES = 262_144
_SECRET = re.compile(
    r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL|(^|_)(PASS|PWD|DSN|AUTH|PAT)(_|$)|(^|_)(DATABASE|REDIS|MONGO)\w*_UR[IL]$"
)
READER_VARIABLES = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


@dataclass(frozen=True)
class Bounds:
    """Limits of a reader.

    Attributes:
        memory_bytes: Address space in bytes.
        seconds: Run time in seconds.
        row_characters: Characters of JSON per row.
        characters: Characters of JSON in all rows together.
    """

    memory_bytes: int
    seconds: float
    row_characters: int
    characters: int


class ReaderError(Exception):
    """Raised if the reader fails.

    Args:
        kind: Name of the exception in the reader, or "died", "size" or "timeout".
        words: Error message.
    """

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


def run_reader(
    reader: str,
    arguments: Mapping[str, Any],
    bounds: Bounds,
    *,
    variables: Mapping[str, str] = MappingProxyType({}),
    module: str = __name__,
) -> Iterator[list[Any]]:
    """Run a reader in a separate process, and yield its messages up to the final `["end"]`.

    The process has an empty temporary folder as home and working folder, and an environment without secrets. It is
    killed when the iteration ends.

    Args:
        reader: A key of `READERS`.
        arguments: Arguments of the reader.
        bounds: Limits.
        variables: Additional environment variables.
        module: Module to run, which passes its readers to `main`.

    Yields:
        Messages, as lists.

    Raises:
        ReaderError: If the reader failed or exceeded a limit.
    """
    request = json.dumps([reader, arguments, vars(bounds)])
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [sys.executable, "-m", module, request],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(folder, variables),
        ) as process,
    ):
        assert process.stdout is not None
        timed_out = threading.Event()

        def stop() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(bounds.seconds, stop)
        timer.start()
        try:
            yield from _messages(process.stdout, bounds)
        except ReaderError as failed:
            if failed.kind == "died" and timed_out.is_set():
                raise ReaderError("timeout", f"it took more than {bounds.seconds:g} seconds") from None
            raise
        finally:
            timer.cancel()
            process.kill()


def _messages(stream: IO[bytes], bounds: Bounds) -> Iterator[list[Any]]:
    longest = 4 * bounds.row_characters + 1_000_000  # in bytes; a working reader writes shorter lines
    while True:
        line = stream.readline(longest)
        if not line.endswith(b"\n"):
            raise ReaderError("died", "it ended in the middle")
        try:
            message: list[Any] = parse_json(line.decode())
        except ValueError:
            raise ReaderError("died", "its output is not JSON") from None
        if message[0] == "failed":
            raise ReaderError(*message[1:])
        if message[0] == "end":
            return
        yield [message[0], int(message[1]), *message[2:]] if message[0] in ("row", "refused") else message


def is_secret(name: str) -> bool:
    """Return whether the name of an environment variable suggests a secret, such as `HF_TOKEN` or `SENTRY_DSN`."""
    return bool(_SECRET.search(name.upper()))


def _environment(folder: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return this environment without secrets, with this package importable and `folder` as home."""
    kept = {name: value for name, value in os.environ.items() if not is_secret(name)}
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH")]))
    homes = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "HF_HOME", "XDG_CACHE_HOME"), folder)
    kept.pop("NEFTUNE_HOME", None)
    return {**kept, **READER_VARIABLES, **homes, "PYTHONPATH": paths, **variables}


# ---------------------------------------------------------------- code that runs in the separate process


def _parquet_columns(path: str) -> Iterator[list[Any]]:
    """Yield the columns of a Parquet file."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        yield ["columns", [str(name) for name in file.schema_arrow.names]]


def _decompress(path: str, method: str) -> Iterator[list[Any]]:
    """Yield base64 chunks of bounded size of a compressed file; `method` is a name in pyarrow, such as "gzip"."""
    import pyarrow

    with pyarrow.OSFile(path) as file, pyarrow.CompressedInputStream(file, method) as stream:
        for number, piece in enumerate(iter(lambda: stream.read(PIECE_BYTES), b""), start=1):
            yield ["row", number, base64.b64encode(piece).decode()]


def _parquet_rows(path: str, columns: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the rows of a Parquet file."""
    import pyarrow.parquet

    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        types = {field.name: field.type for field in file.schema_arrow}
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns), use_threads=False):
            for index in range(batch.num_rows):
                number += 1
                record = batch.slice(index, 1).to_pylist()[0]
                yield ["row", number, {name: _as_written(value, types[name]) for name, value in record.items()}]


def _hub_rows(name: str, configuration: str, split: str, rows: int) -> Iterator[list[Any]]:
    """Yield the first rows of a hub data set without decoding images and sound; see `hub_rows.first_rows`."""
    import datasets
    from huggingface_hub import HfApi

    from neftune_core.data.formats.hub_card import require_own_files

    confine(hub_hosts())
    commit = HfApi().dataset_info(name, timeout=10).sha  # fails immediately; the library retries for half a minute
    require_own_files(name, str(commit))
    datasets.disable_progress_bars()
    found = datasets.load_dataset(name, configuration or None, split=split, streaming=True, revision=commit)
    for number, record in enumerate(islice(found.decode(False), rows), start=1):
        yield ["row", number, record]


def _as_written(value: Any, arrow_type: Any) -> Any:
    """Convert low-precision floats to the shortest number that identifies them: 0.1, not 0.10000000149011612."""
    from pyarrow import types

    if isinstance(value, float) and (types.is_float32(arrow_type) or types.is_float16(arrow_type)):
        return float(str(arrow_type.to_pandas_dtype()(value)))
    if isinstance(value, list) and hasattr(arrow_type, "value_type"):
        return [_as_written(one, arrow_type.value_type) for one in value]
    if isinstance(value, dict) and types.is_struct(arrow_type):
        return {name: _as_written(one, arrow_type.field(name).type) for name, one in value.items()}
    return value


READERS: dict[str, Callable[..., Iterator[list[Any]]]] = {
    "parquet columns": _parquet_columns,
    "parquet rows": _parquet_rows,
    "unpacked": _decompress,
    "hub": _hub_rows,
}


def main(request: str, readers: Mapping[str, Callable[..., Iterator[list[Any]]]] = READERS) -> None:
    """Run a reader and print its messages.

    Args:
        request: JSON list of the name, arguments and bounds of the reader.
        readers: Available readers.
    """
    reader, arguments, given = json.loads(request)
    bounds = Bounds(**given)
    _bound_memory(bounds.memory_bytes)
    total = 0
    try:
        for message in readers[reader](**arguments):
            line = json.dumps(message, default=_json_default, skipkeys=True)
            total += len(line)
            if total > bounds.characters:
                print(json.dumps(["failed", "size", str(message[1])]))
                return
            if message[0] == "row" and len(line) > bounds.row_characters:
                reason = f"it has more than {bounds.row_characters:,} characters"
                line = json.dumps(["refused", message[1], reason])
            print(line)
        print('["end"]')
    except MemoryError:
        print('["failed", "MemoryError", "memory"]')
    except Exception as error:
        print(json.dumps(["failed", type(error).__name__, str(error)[:1000]]))


def _json_default(value: Any) -> dict[str, str] | str:
    """Convert a value without JSON equivalent: dates to ISO 8601, decimals to text, others to a type name."""
    if isinstance(value, datetime.datetime) and value.tzinfo is None and value.time() == datetime.time():
        value = value.date()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    return {NOT_TEXT: "raw bytes" if isinstance(value, bytes) else type(value).__name__}


def _bound_memory(count: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (count, count))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1])
