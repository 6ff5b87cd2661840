"""Sign-in with a token: one secret for the dashboard, exchanged for a cookie that says nothing about it."""

import base64
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

COOKIE_AGE_S = 30 * 86_400
MIN_LENGTH = 16
"""Shorter tokens can be guessed."""


class Tokens:
    """Checks the token and makes and checks the sessions that stand for it.

    A session is `time.id.signature`, signed with a key derived from the token: it outlives a restart of the dashboard, and a
    new token ends all of them. Scrypt makes each guess at a token from a stolen cookie cost about 50 ms.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._digest = _digest(token)
        self._key = hashlib.scrypt(token.encode(), salt=b"seqsetvae-monitor session", n=2**14, r=8, p=1)
        self._clock = clock
        self._ended: OrderedDict[str, None] = OrderedDict()
        self.cookie = f"seqsetvae_{self._sign('name')[:10]}"
        """Cookies are shared by all ports of a host: dashboards with different tokens must not overwrite each other's."""

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes as long for any wrong one, whatever its length."""
        return hmac.compare_digest(_digest(given), self._digest)

    def begin(self) -> str:
        """A new session, the value of its cookie."""
        head = f"{int(self._clock())}.{secrets.token_urlsafe(12)}"
        return f"{head}.{self._sign(head)}"

    def session(self, cookie: str) -> str | None:
        """The id of the session that a cookie stands for; None when it is forged, too old or ended."""
        head, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(_digest(signature), _digest(self._sign(head))):
            return None
        began, _, name = head.partition(".")
        young = 0 <= self._clock() - int(began) <= COOKIE_AGE_S
        return name if young and name not in self._ended else None

    def end(self, cookie: str) -> None:
        """Refuse this session from now on (until a restart; its cookie is deleted too). Remembers the last 10,000."""
        name = self.session(cookie)
        if name is not None:
            self._ended[name] = None
            while len(self._ended) > 10_000:
                self._ended.popitem(last=False)

    def _sign(self, text: str) -> str:
        signed = hmac.digest(self._key, text.encode(errors="surrogatepass"), "sha256")
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


class Throttle:
    """Slows the guessing of tokens: ten wrong ones from an address, then one every six seconds.

    One number an address, of the last 4,096 that failed: the time at which it will have all its tries again.
    """

    TRIES = 10
    EVERY_S = 6.0
    KEPT = 4096

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        whole_at = self._whole_at.get(_network(address), 0.0)
        return max(0.0, whole_at - self._clock() - (self.TRIES - 1) * self.EVERY_S)

    def failed(self, address: str) -> None:
        """Count one wrong token."""
        network = _network(address)
        self._whole_at[network] = max(self._whole_at.get(network, 0.0), self._clock()) + self.EVERY_S
        self._whole_at.move_to_end(network)
        while len(self._whole_at) > self.KEPT:
            self._whole_at.popitem(last=False)


def _network(address: str) -> str:
    """One person may use any address of an IPv6 network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
