"""A small OpenID Connect provider on this machine: discovery, authorize, token and keys, as far as a sign-in needs them."""

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.browser.driving import dashboard

CLIENT, SECRET = "dashboard", "client-secret"


class Provider:
    """Signs in whoever `claims` says, without asking. `address` is its issuer."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.claims: dict[str, Any] = {"sub": "1", "email": "ann@example.org", "email_verified": True, "name": "Ann"}
        self._key = RSAKey.generate_key(2048, {"kid": "1", "alg": "RS256", "use": "sig"})
        self._codes: dict[str, str | None] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _discovery(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.address, "authorization_endpoint": f"{self.address}/authorize", "token_endpoint": f"{self.address}/token",
                "jwks_uri": f"{self.address}/keys", "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
            }
        )  # fmt: skip

    async def _authorize(self, request: Request) -> Response:
        asked = request.query_params
        assert asked["client_id"] == CLIENT and asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe()
        self._codes[code] = asked.get("nonce")
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def _token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        nonce = self._codes.pop(form["code"][0])
        now = int(time.time())
        claims = {**self.claims, "iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce}
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self._key)
        return JSONResponse(
            {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "expires_in": 300, "id_token": signed}
        )

    async def _keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """A provider that answers on a free port."""
    config = uvicorn.Config("", port=0, log_level="error", lifespan="off")
    listening = config.bind_socket()
    made = Provider(f"http://127.0.0.1:{listening.getsockname()[1]}")
    config.app = made.app()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join(timeout=5)


def write_secrets(home: Path, provider: Provider, origin: str) -> None:
    """`secrets.toml` below a home folder, for a dashboard at `origin`."""
    (home / ".streamlit").mkdir(parents=True, exist_ok=True)
    (home / ".streamlit" / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "{origin}/oauth2callback"\ncookie_secret = "{secrets.token_urlsafe(32)}"\n'
        f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
        f'server_metadata_url = "{provider.address}/.well-known/openid-configuration"\n'
    )


@contextlib.contextmanager
def dashboard_with(provider: Provider, runs: Path, home: Path, *options: str) -> Iterator[str]:
    """The address of a dashboard that signs in through `provider`.

    Its address stands in its configuration, so that its port has to be chosen before it starts: another when that was taken meanwhile.
    """
    with contextlib.ExitStack() as stack:
        for tries_left in (2, 1, 0):
            with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
                port = free.getsockname()[1]
            write_secrets(home, provider, f"http://127.0.0.1:{port}")
            try:
                address = stack.enter_context(dashboard(runs, "--port", str(port), *options, env={"HOME": str(home)}))
                break
            except AssertionError:
                if not tries_left:
                    raise
        yield address
