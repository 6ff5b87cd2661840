"""Stands around the whole application: every request and every socket is checked here, also those of routes added later."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.auth.hosts import Hosts
from dashboard.document import inline_scripts

OPEN = "/_stcore/health"
"""The only address that answers anybody: whether the server is up, for health checks."""
STARTED = "seqsetvae.started"
"""Key of the ASGI scope: the response has begun."""


class Gate(Protocol):
    """Who may look."""

    async def __call__(self, request: HTTPConnection) -> Response | None:
        """Answer a request itself (a sign-in page, a refusal), or let it through with None."""

    def session(self, request: HTTPConnection) -> AbstractContextManager[asyncio.Event | None]:
        """Held while a connection lasts; the event is set when whoever made it signs out. None where that is not known."""


class Guard:
    """Answers only under known names, lets through whom `gate` lets through, and adds headers that bind the browser.

    Args:
        app: the whole application.
        gate: who may look; None for everybody who reaches the server.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, gate: Gate | None = None) -> None:
        self.app = app
        self.hosts = hosts
        self.gate = gate
        self._scripts = hashes(inline_scripts())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive) if scope["type"] == "http" else HTTPConnection(scope)
        send = self._with_headers(request, send)
        answer = await self._answer(request)
        if answer is None:
            with self.gate.session(request) if self.gate else nullcontext() as ended:
                await self.app(scope, until(ended, scope, receive, send) if ended else receive, send)
        elif scope["type"] == "http":
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "sign in first"})

    async def _answer(self, request: HTTPConnection) -> Response | None:
        if request.scope["type"] == "http" and request.scope["path"] == OPEN:
            return None
        refusal = self.hosts.refusal(request)
        if refusal is not None:
            return PlainTextResponse(refusal + "\n", status_code=403)
        return await self.gate(request) if self.gate else None

    def _with_headers(self, request: HTTPConnection, send: Send) -> Send:
        """Headers that a response does not set itself are added on its way out."""
        wanted = {
            "Content-Security-Policy": self._policy(request.headers.get("host", "")),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",  # not `no-referrer`: forms would then be sent with the origin `null`
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.scope[STARTED] = True
                headers = MutableHeaders(scope=message)
                for name, value in wanted.items():
                    headers.setdefault(name, value)
                if "access-control-allow-origin" in headers:  # Streamlit lets pages of any port of this machine read
                    del headers["access-control-allow-origin"]
            await send(message)

        return add

    def _policy(self, host: str) -> str:
        """As narrow as Streamlit works with: its components are modules in blobs, plotly compiles shaders' code, emotion's styles
        stand in the page. No script, picture or connection from elsewhere, and no script in an attribute."""
        sockets = f" ws://{host} wss://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else ""
        return (
            f"default-src 'self'; script-src 'self' blob: 'unsafe-eval' {self._scripts}; style-src 'self' 'unsafe-inline'; "
            f"img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
            f"connect-src 'self' data: blob:{sockets}; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
        )


def until(ended: asyncio.Event, scope: Scope, receive: Receive, send: Send) -> Receive:
    """What a connection receives, as long as its session lasts: streams and sockets do not outlive it."""

    async def next_message() -> Message:
        coming, end = asyncio.ensure_future(receive()), asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait((coming, end), return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
        finally:
            coming.cancel()
            end.cancel()
        if scope["type"] == "http":
            if STARTED in scope:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            return {"type": "http.disconnect"}
        await send({"type": "websocket.close", "code": 1008, "reason": "signed out"})
        return {"type": "websocket.disconnect", "code": 1008}

    return next_message


def hashes(scripts: Sequence[str]) -> str:
    """Scripts as the policy names them."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
