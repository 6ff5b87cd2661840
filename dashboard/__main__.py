"""Serves the dashboard.

python -m dashboard --runs runs --port 8501
"""

import argparse
import errno
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from dashboard.auth import access as auth
from dashboard.front import Front, Loaded
from dashboard.notify import options as notify_options
from shared.errors import InputError


class Server(uvicorn.Server):
    """uvicorn that says where it answers, and that ends open event streams at once when told to stop."""

    def __init__(self, load: Callable[[Front], Loaded], access: auth.Access, welcome: str) -> None:
        self.front = Front(load, self._stop, signs_in=access.way == "oidc")
        super().__init__(uvicorn.Config(
            access.guard(self.front), log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="websockets-sansio",
            server_header=False,
        ))  # fmt: skip
        self._welcome = welcome

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Print the address once it answers."""
        await super().startup(sockets)
        if self.started:
            print(self._welcome, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Close the streams first: the server waits for open responses."""
        self.front.close_streams()
        super().handle_exit(sig, frame)

    def _stop(self) -> None:
        self.should_exit = True


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dashboard", description="Watch SeqSetVAE training runs in a browser.")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder that holds all runs (default: runs)"
    )
    parser.add_argument("--port", type=int, default=8501, help="port to listen on; 0 takes a free one (default: 8501)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument(
        "--allow-jobs", action="store_true", help="training and analysis may be started from the pages (off: they run programs)"
    )
    parser.add_argument(
        "--data", type=Path, action="append", metavar="DIR", help="a prepared data set, or a folder of them, to offer for training; "
        "may be given several times (default: prepared and demo/data)",
    )  # fmt: skip
    auth.add_options(parser)
    notify_options.add_options(parser)
    return parser.parse_args(argv)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, or an exit that says what to do instead."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # connections inherit it; asyncio sets it on its own alone
        return listening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(
                f"port {port} is taken, perhaps by another dashboard. Try --port {port + 1}, or --port 0 for any free port."
            )
        sys.exit(f"cannot listen on {host}:{port}: {error.strerror}. Try --host 127.0.0.1 and another --port.")
    except OverflowError:
        sys.exit(f"--port must be between 0 and 65535, got {port}")


def runs_folder(path: Path) -> Path:
    """The absolute runs folder, made if it is missing: the first run will appear in it."""
    if path.exists() and not path.is_dir():
        sys.exit(f"--runs {path} is a file; give the folder that holds the runs (the trainer's --output_dir)")
    if not path.exists():
        try:
            path.mkdir(parents=True)
        except OSError as error:
            sys.exit(f"--runs {path} does not exist and cannot be made: {error.strerror}")
        print(f"{path} did not exist; made it, empty. Runs will show up when one starts.", flush=True)
    return path.resolve()


def address_of(access: auth.Access, host: str, port: int) -> str:
    """Where to open the dashboard."""
    if access.origin:
        return access.origin
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def load(front: Front, runs: Path, options: dict[str, Any]) -> Loaded:
    """The application. Importing it takes a second, so that stands here and not above; the runs are read from half of it on."""
    from dashboard.read_ahead import ReadAhead
    from dashboard.resources import few_heaps
    from dashboard.service import Options, Service, install

    few_heaps()
    service = Service(runs, Options(**options))
    front.reads_ahead(ReadAhead(service.store))
    install(service)
    with unused("plotly.graph_objects"):
        from dashboard.application import loaded

    return loaded(service)


@contextmanager
def unused(module: str) -> Iterator[None]:
    """Streamlit loads this to give plotly's figures a theme, where it is there; a tenth of a second for what no page uses."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def main(argv: list[str] | None = None) -> None:
    """Serve until interrupted."""
    args = parse(argv)
    try:
        access, ways = auth.decide(args), notify_options.ways_out(args)
    except InputError as error:
        sys.exit(str(error))
    runs = runs_folder(args.runs)
    listening = bind(args.host, args.port)
    address = address_of(access, args.host, listening.getsockname()[1])
    options = {
        "allow_jobs": args.allow_jobs, "auth": access.way, "data": tuple(args.data or (Path("prepared"), Path("demo/data"))),
        "ways": ways, "address": args.notify_address or address,
    }  # fmt: skip
    advice = f"\n  {access.advice}" if access.advice else ""
    welcome = f"SeqSetVAE Monitor: {address}{access.query}\n  runs in {runs}; Ctrl-C stops{advice}"
    server = Server(lambda front: load(front, runs, options), access, welcome)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    if server.front.error is not None:
        raise server.front.error


if __name__ == "__main__":
    main()
