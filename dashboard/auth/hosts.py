"""Under which names the dashboard answers, and which pages may ask: what keeps other web sites out of a browser's session.

A page elsewhere can make a browser send requests here, and by DNS rebinding even under a name of its own, so that it may read
the answers. Both show in headers that no page can set.
"""

import ipaddress
import re
from collections.abc import Iterable

from starlette.requests import HTTPConnection

HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
LOCAL_NAMES = frozenset({"localhost"})


def is_local(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host in LOCAL_NAMES or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(value: str) -> str | None:
    """The name in a Host header, without its port; None when it is none."""
    match = HOST.fullmatch(value)
    return match["name"].strip("[]").lower().rstrip(".") if match else None


class Hosts:
    """Names that are answered: the machine's own, and those given; any name if `anybody` (where a sign-in is asked for)."""

    def __init__(self, names: Iterable[str] = (), *, anybody: bool = False) -> None:
        self.names = frozenset(name.lower().rstrip(".") for name in names)
        self.anybody = anybody

    def refusal(self, request: HTTPConnection) -> str | None:
        """Why a request is not answered, in words for who sent it; None when it is."""
        headers = request.headers
        given = headers.getlist("host")
        name = host_name(given[0]) if len(given) == 1 else None
        if name is None:
            return "The request names no host, or not properly."
        if not (self.anybody or is_local(name) or name in self.names):
            return f"This dashboard does not answer to the name {name}. If it should, start it with --allow-host {name}."
        origin = headers.get("origin")
        if origin is not None and not self._own(origin, given[0]):
            return (
                "The request comes from a page of another site. If a proxy stands in front of the dashboard, let it pass the "
                "Host header on, or start the dashboard with --allow-host NAME, the name that people use."
            )
        if _of_another_site(request) and not _is_visit(request):
            return "Pages of other sites may link here, not read from here."
        return None

    def _own(self, origin: str, host: str) -> bool:
        scheme, _, netloc = origin.partition("://")
        return scheme in ("http", "https") and (netloc.lower() == host.lower() or host_name(netloc) in self.names)


def _of_another_site(request: HTTPConnection) -> bool:
    """Browsers say so in a header of their own; same-site is another port or a sister name."""
    return request.headers.get("sec-fetch-site") in ("cross-site", "same-site")


def _is_visit(request: HTTPConnection) -> bool:
    """A link that is followed into a tab of its own."""
    return (
        request.scope.get("method") == "GET"
        and request.headers.get("sec-fetch-mode") == "navigate"
        and request.headers.get("sec-fetch-dest", "document") == "document"
    )
