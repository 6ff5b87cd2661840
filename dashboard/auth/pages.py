"""The few pages that exist before somebody is signed in: whole documents without scripts, nothing loaded from anywhere."""

from importlib.resources import files
from string import Template
from urllib.parse import quote, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse

from dashboard.widgets import Html, el, join

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def page(title: str, body: Html, *, status: int = 200, refresh: str | None = None) -> HTMLResponse:
    """A document; `refresh` is an address it goes on to at once."""
    shell = Template((files("dashboard") / "frontend" / "login.html").read_text(encoding="utf-8"))
    head = el("meta", http_equiv="refresh", content=f"0; url={refresh}") if refresh else ""
    text = shell.substitute(title=el("title", title), head=head, body=body)
    return HTMLResponse(text, status_code=status, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


def token_page(following: str, problem: str | None = None, status: int = 200) -> HTMLResponse:
    """The form that takes the token, and says where to find one."""
    wrong = el("p", problem, cls="problem", id="problem", role="alert") if problem else None
    body = join(
        [
            el("h1", "Sign in"),
            el("p", "This dashboard asks for its access token. It was printed as part of the address when the dashboard started, or "
               "whoever started it chose one."),
            el(
                "form",
                el("input", name="username", value="seqsetvae", autocomplete="username", hidden=""),
                el("label", "Access token", **{"for": "token"}),
                el("input", id="token", name="token", type="password", required="", autofocus="", autocomplete="current-password",
                   spellcheck="false", aria_describedby="problem" if problem else None, aria_invalid="true" if problem else None),
                wrong,
                el("input", type="hidden", name="next", value=following),
                el("button", "Sign in", type="submit"),
                method="post", action="login",
            ),
            el("p", "Scripts send it as ", el("code", "Authorization: Bearer TOKEN"), ".", cls="dim"),
        ]
    )  # fmt: skip
    return page("Sign in · SeqSetVAE Monitor", body, status=status)


def provider_page(providers: tuple[str, ...], following: str) -> HTMLResponse:
    """One button for each provider."""
    names = {"default": "your organisation"}
    buttons = (
        el("a", f"Sign in with {names.get(name, name)}", cls="button",
           href="login?" + urlencode({"provider": name, "next": following}))
        for name in providers
    )  # fmt: skip
    body = join(
        [el("h1", "Sign in"), el("p", "The training runs behind this page are for people who are signed in."), *buttons]
    )
    return page("Sign in · SeqSetVAE Monitor", body)


def not_on_the_list(name: str, prefix: str, *, unverified: bool = False) -> HTMLResponse:
    """For somebody whom the provider knows and the dashboard does not, or not for certain."""
    missing = ["Ask whoever runs it to start it with ", el("code", f"--allow-user {name}"), ", or sign in as somebody else."]
    if unverified:
        missing = [
            "The address is on the list, but your provider does not say that it is yours. Ask whoever runs the provider to verify "
            "it and to send the claim ", el("code", "email_verified"), ", or sign in as somebody else.",
        ]  # fmt: skip
    body = join(
        [
            el("h1", "Not verified" if unverified else "Not on the list"),
            el("p", "You are signed in as ", el("strong", name), ", who may not look at this dashboard."),
            el("p", *missing),
            el("a", "Sign out", cls="button", href=f"{prefix}auth/logout"),
        ]
    )
    return page("Not on the list · SeqSetVAE Monitor", body, status=403)


def hop(address: str) -> HTMLResponse:
    """Goes to the same address once more: a strict cookie is not sent where another site linked here, but from here it is."""
    return page("SeqSetVAE Monitor", join([el("p", "One moment …"), el("a", "Go on", href=address)]), refresh=address)


def up(request: HTTPConnection) -> str:
    """From the address asked for to the root, relatively: a proxy may serve the dashboard below a path of its own."""
    depth = request.scope["path"].count("/") - 1
    return "../" * depth if depth > 0 else "./"


def below(request: HTTPConnection, target: str) -> str:
    """A path from the root, relatively from the address asked for."""
    return up(request) + target.removeprefix("/")


def here(request: HTTPConnection) -> str:
    """The path asked for, with its query but without a token in it."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
    return quote(request.scope["path"]) + (f"?{urlencode(query)}" if query else "")


def safe_target(address: str) -> str:
    """An address on this server as it was given, else its root."""
    plain = address.isprintable() and "\\" not in address and " " not in address
    return address if plain and address.startswith("/") and not address.startswith("//") else "/"
