"""Sign-in through an OpenID Connect provider: Streamlit does the exchange and keeps who it was in a signed cookie.

What is checked here is that cookie, for every request; Streamlit itself looks at it only when a page connects.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from streamlit import config
from streamlit.auth_util import get_cookie_with_chunks, get_origin_from_redirect_uri, get_secrets_auth_section
from streamlit.user_info import generate_login_redirect_url
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from shared.errors import InputError

SIGN_OUT = "/auth/logout"
OWN_ROUTES = ("/auth/login", SIGN_OUT, "/oauth2callback")
"""Streamlit's routes that sign in and out: open to all, they read nothing."""
COMMON = ("redirect_uri", "cookie_secret")
OF_PROVIDER = ("client_id", "client_secret", "server_metadata_url")
EXAMPLE = """[auth]
redirect_uri = "https://ADDRESS-PEOPLE-USE/oauth2callback"
cookie_secret = "32 or more random characters"
client_id = "..."
client_secret = "..."
server_metadata_url = "https://PROVIDER/.well-known/openid-configuration\""""


@dataclass(frozen=True)
class Person:
    """Whom the provider signed in."""

    name: str
    email: str | None
    verified: bool
    """Whether the provider says that the address is theirs."""
    session: str
    """Of this sign-in alone."""


class Oidc:
    """What `[auth]` in secrets.toml says, checked at the start, and who may look.

    Args:
        allowed: e-mail addresses, or domains (`example.org` or `@example.org`); empty for everybody whom the provider signs in.

    Raises:
        InputError: the configuration is missing or incomplete; names file and fields.
    """

    def __init__(self, allowed: Sequence[str] = (), port: int = 8501) -> None:
        config.set_option("server.port", port)  # stands for {port} in redirect_uri
        self.allowed = frozenset(entry.strip().lower().removeprefix("@") for entry in allowed)
        self.providers = check_secrets()
        origin = get_origin_from_redirect_uri()
        assert origin is not None  # check_secrets has seen redirect_uri
        self.origin = origin
        self._ended: OrderedDict[str, None] = OrderedDict()

    @property
    def host(self) -> str:
        """The name by which browsers reach the dashboard."""
        return urlsplit(self.origin).hostname or ""

    def person(self, cookies: Mapping[str, str]) -> Person | None:
        """Who is signed in, by Streamlit's own cookie; None for nobody, and for who has signed out with it."""
        secret = get_cookie_secret()

        def one(name: str) -> bytes | None:
            value = cookies.get(name)
            return decode_signed_value(secret, name, value.encode("latin-1", "replace")) if value else None

        raw = get_cookie_with_chunks(one, USER_COOKIE_NAME)
        claims = json.loads(raw) if raw else {}
        if claims.get("is_logged_in") is not True or claims.get("origin") != self.origin:
            return None
        email = str(claims["email"]).lower() if claims.get("email") else None
        name = str(email or claims.get("name") or claims.get("sub") or "somebody")
        session = hashlib.sha256(cookies[USER_COOKIE_NAME].encode() + (raw or b"")).hexdigest()
        if session in self._ended:
            return None
        return Person(name, email, claims.get("email_verified") in (True, "true"), session)

    def end(self, session: str) -> None:
        """Refuse this sign-in from now on (until a restart; Streamlit deletes its cookie too). Remembers the last 10,000."""
        self._ended[session] = None
        while len(self._ended) > 10_000:
            self._ended.popitem(last=False)

    def may_look(self, person: Person) -> bool:
        """Whether somebody who is signed in is on the list, with an address that the provider has verified."""
        return not self.allowed or (person.verified and self._named(person))

    def only_unverified(self, person: Person) -> bool:
        """Whether the list names them and the provider does not say that the address is theirs."""
        return self._named(person) and not person.verified

    def _named(self, person: Person) -> bool:
        return person.email is not None and not self.allowed.isdisjoint((person.email, person.email.rpartition("@")[2]))

    def login_url(self, provider: str) -> str:
        """Streamlit's address that sends the browser to the provider; good for two minutes."""
        return generate_login_redirect_url(provider)


def check_secrets() -> tuple[str, ...]:
    """Names of the providers in secrets.toml, "default" for one without a name of its own.

    Raises:
        InputError: names the file and what is missing in it.
    """
    where = " or ".join(config.get_option("secrets.files"))
    if find_spec("authlib") is None or find_spec("httpx") is None:
        raise InputError("--auth oidc needs the packages Authlib and httpx: pip install -r requirements.txt")
    section: dict[str, Any] = dict(get_secrets_auth_section())
    if not section:
        raise InputError(f"--auth oidc: no readable [auth] section in {where}. Write it there:\n\n{EXAMPLE}\n")
    named = {name: value for name, value in section.items() if isinstance(value, Mapping) and name != "client_kwargs"}
    providers = {"default": section, **named} if not named or "client_id" in section else named
    missing = [f"auth.{field}" for field in COMMON if not section.get(field)]
    for name, values in providers.items():
        prefix = "auth" if name == "default" else f"auth.{name}"
        missing += [f"{prefix}.{field}" for field in OF_PROVIDER if not values.get(field)]
    if missing:
        raise InputError(
            f"--auth oidc: {', '.join(missing)} missing in {where}. A whole section looks like this:\n\n{EXAMPLE}\n"
        )
    _check_values(section, providers, where)
    return tuple(providers)


def _check_values(section: Mapping[str, Any], providers: Mapping[str, Any], where: str) -> None:
    uri = urlsplit(str(section["redirect_uri"]))
    if uri.scheme not in ("http", "https") or not uri.netloc or uri.path != "/oauth2callback":
        raise InputError(
            f"--auth oidc: auth.redirect_uri in {where} is {section['redirect_uri']!r}; it must be the address people use, "
            "followed by /oauth2callback"
        )
    if len(str(section["cookie_secret"])) < 32:
        raise InputError(
            f"--auth oidc: auth.cookie_secret in {where} has {len(str(section['cookie_secret']))} characters, at least 32 are needed: "
            "whoever guesses it is signed in as anybody. Make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    for name in providers:
        if "_" in name:
            raise InputError(f"--auth oidc: provider auth.{name} in {where}: Streamlit does not take a name with an underscore")
