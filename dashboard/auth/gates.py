"""Who may look: by a token, or by whom an OpenID Connect provider signed in. Each answers its own addresses for signing in."""

import asyncio
import math
from contextlib import AbstractContextManager
from urllib.parse import parse_qs, quote, unquote

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from dashboard.auth.oidc import OWN_ROUTES, SIGN_OUT, Oidc, Person
from dashboard.auth.pages import below, here, hop, not_on_the_list, provider_page, safe_target, token_page, up
from dashboard.auth.sessions import Sessions
from dashboard.auth.token import COOKIE_AGE_S, Throttle, Tokens

LOGIN, LOGOUT = "/login", "/logout"
FORM_BYTES = 8192
NEXT = "seqsetvae_next"
"""Cookie that keeps where somebody wanted to go while the provider signs them in: Streamlit's own way leads to the root."""


class TokenGate:
    """Lets through who has a session, or sends the token in a header; asks everybody else for it."""

    def __init__(self, token: str, throttle: Throttle | None = None) -> None:
        self.tokens = Tokens(token)
        self._sessions = Sessions()
        self.throttle = throttle or Throttle()

    async def __call__(self, request: HTTPConnection) -> Response | None:
        """None to let through."""
        path, sent = request.scope["path"], _bearer(request)
        if isinstance(request, Request) and path in (LOGIN, LOGOUT):
            return await self._login(request) if path == LOGIN else self._logout(request)
        if sent is not None:
            return self._wrong(request, sent)
        known = self.tokens.session(request.cookies.get(self.tokens.cookie, "")) is not None
        if request.scope["type"] == "http" and "token" in request.query_params:
            target = here(request)
            return _on(request, target) if known else self._enter(request, request.query_params["token"], target)
        return None if known else self._ask(request)

    def session(self, request: HTTPConnection) -> AbstractContextManager[asyncio.Event | None]:
        """An event for the session that the request came with."""
        return self._sessions.held(self.tokens.session(request.cookies.get(self.tokens.cookie, "")))

    def _ask(self, request: HTTPConnection) -> Response:
        if not is_page(request):
            return _refused("Sign in first, or send the header `Authorization: Bearer TOKEN`.")
        if request.headers.get("sec-fetch-site") == "cross-site":
            return hop(below(request, here(request)))
        return _to_login(request)

    def _wrong(self, request: HTTPConnection, token: str) -> Response | None:
        """None when the token is right."""
        address = request.client.host if request.client else ""
        wait = self.throttle.wait(address)
        if wait:
            again = {"Retry-After": str(math.ceil(wait))}
            return _refused(f"Too many wrong tokens. Try again in {math.ceil(wait)} s.", 429, again)
        if self.tokens.is_token(token):
            return None
        self.throttle.failed(address)
        return _refused("This is not the token of this dashboard.")

    def _enter(self, request: HTTPConnection, token: str, target: str) -> Response:
        """A session for the right token, and on to where somebody wanted to go; else the form again."""
        wrong = self._wrong(request, token.strip())
        if wrong is not None:
            if not is_page(request):
                return wrong
            page = token_page(target, bytes(wrong.body).decode().strip(), wrong.status_code)
            page.headers.update({name: value for name, value in wrong.headers.items() if name == "retry-after"})
            return page
        answer = _on(request, target)
        answer.set_cookie(
            self.tokens.cookie, self.tokens.begin(), max_age=COOKIE_AGE_S, path="/", httponly=True, samesite="strict",
            secure=request.scope["scheme"] in ("https", "wss"),
        )  # fmt: skip
        return answer

    async def _login(self, request: Request) -> Response:
        if request.method == "POST":
            form = await _form(request)
            return self._enter(request, form.get("token", ""), safe_target(form.get("next", "/")))
        following = safe_target(request.query_params.get("next", "/"))
        if self.tokens.session(request.cookies.get(self.tokens.cookie, "")) is not None:
            return _on(request, following)
        return token_page(following)

    def _logout(self, request: Request) -> Response:
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return RedirectResponse("./", 303)  # a link elsewhere must not sign anybody out
        cookie = request.cookies.get(self.tokens.cookie, "")
        self._sessions.end(self.tokens.session(cookie) or "")
        self.tokens.end(cookie)
        answer = _on(request, LOGIN)
        answer.delete_cookie(self.tokens.cookie, path="/", httponly=True, samesite="strict")
        return answer


class OidcGate:
    """Lets through whom the provider signed in and the list names; leaves Streamlit's own routes for that open."""

    def __init__(self, oidc: Oidc) -> None:
        self.oidc = oidc
        self._sessions = Sessions()

    async def __call__(self, request: HTTPConnection) -> Response | None:
        """None to let through."""
        path = request.scope["path"]
        if isinstance(request, Request) and path in (LOGOUT, SIGN_OUT):
            self._end(request)
        if isinstance(request, Request) and path in OWN_ROUTES:
            return None
        if isinstance(request, Request) and path == LOGOUT:
            return RedirectResponse("./auth/logout", 303)
        person = self.oidc.person(request.cookies)
        if isinstance(request, Request) and path == LOGIN:
            return self._login(request, person is not None)
        return self._judge(request, person)

    def session(self, request: HTTPConnection) -> AbstractContextManager[asyncio.Event | None]:
        """An event for the sign-in that the request came with."""
        person = self.oidc.person(request.cookies)
        return self._sessions.held(person.session if person else None)

    def _end(self, request: HTTPConnection) -> None:
        person = self.oidc.person(request.cookies)
        if person is not None:
            self.oidc.end(person.session)
            self._sessions.end(person.session)

    def _judge(self, request: HTTPConnection, person: Person | None) -> Response | None:
        if person is None:
            return _to_login(request) if is_page(request) else _refused("Sign in first.")
        if not self.oidc.may_look(person):
            unverified = self.oidc.only_unverified(person)
            if is_page(request):
                return not_on_the_list(person.name, up(request), unverified=unverified)
            if unverified:
                return _refused(f"The provider does not say that {person.name} is verified (email_verified).", 403)
            return _refused(f"{person.name} is not on the list of who may look.", 403)
        return self._onward(request) if request.scope["path"] == "/" and NEXT in request.cookies and is_page(request) else None

    @staticmethod
    def _onward(request: HTTPConnection) -> Response:
        answer = _on(request, safe_target(unquote(request.cookies[NEXT])))
        answer.delete_cookie(NEXT, path="/")
        return answer

    def _login(self, request: Request, known: bool) -> Response:
        """The choice of providers; or, once chosen, on to Streamlit's route."""
        following = safe_target(request.query_params.get("next", "/"))
        if known:
            return _on(request, following)
        if request.query_params.get("provider") in self.oidc.providers:
            url = self.oidc.login_url(request.query_params["provider"])
            answer = _on(request, url)
            answer.set_cookie(NEXT, quote(following), max_age=600, path="/", httponly=True, samesite="lax")
            return answer
        return provider_page(self.oidc.providers, following)


def is_page(request: HTTPConnection) -> bool:
    """Whether a person waits for a page, so that a form helps more than an error."""
    if request.scope["type"] != "http" or request.scope["method"] not in ("GET", "HEAD", "POST"):
        return False
    return "text/html" in request.headers.get("accept", "")


def _to_login(request: HTTPConnection) -> Response:
    return _on(request, f"{LOGIN}?next={quote(here(request))}")


def _on(request: HTTPConnection, target: str) -> Response:
    """On to a path of this server, given from its root."""
    return RedirectResponse(below(request, target), 303, headers={"Cache-Control": "no-store"})


def _bearer(request: HTTPConnection) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _refused(words: str, status: int = 401, headers: dict[str, str] | None = None) -> Response:
    told = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return PlainTextResponse(words + "\n", status, headers={**told, **(headers or {}), "Cache-Control": "no-store"})


async def _form(request: Request) -> dict[str, str]:
    """The fields of a short form; nothing of a long one."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_BYTES:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}
