"""Sign-in through OpenID Connect: a provider of the test's own, a real dashboard, and every route without, with a forged and with the
true identity cookie."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from streamlit import config
from streamlit.runtime.secrets import secrets_singleton

from dashboard.auth.oidc import check_secrets
from shared.errors import InputError
from tests.oidc_provider import CLIENT, Provider, dashboard_with, provider
from tests.remote import PAGE, ask, knock, routes
from tests.run_factory import make_run
from tests.test_auth_server import FILES, filled

SIGN_IN = {"/auth/login", "/auth/logout", "/oauth2callback"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oidc") / "runs"
    make_run(folder, "here", steps=60)
    return folder


@pytest.fixture(scope="module")
def server(issuer: Provider, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ["--auth", "oidc", "--allow-user", "ann@example.org", "--allow-user", "@lab.example"]
    with dashboard_with(issuer, runs, tmp_path_factory.mktemp("home"), *options) as address:
        yield address


def walk(server: str, target: str = "/live?run=here") -> tuple[httpx.Client, httpx.Response, list[str]]:
    """A browser that opens a page, chooses the provider and follows where it is sent."""
    client = httpx.Client(base_url=server, headers=PAGE, follow_redirects=True, timeout=20)
    choice = client.get(target)
    assert choice.status_code == 200 and "Sign in with your organisation" in choice.text and choice.url.path == "/login"
    link = choice.text.split('class="button" href="')[1].split('"')[0].replace("&amp;", "&")
    done = client.get(f"/{link}")
    return client, done, [str(step.url) for step in done.history]


def cookies(client: httpx.Client) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)}


def test_somebody_on_the_list_gets_to_where_they_wanted(server: str, issuer: Provider) -> None:
    client, done, way = walk(server)
    assert any(step.startswith(f"{issuer.address}/authorize") for step in way)
    assert str(done.url) == f"{server}/live?run=here" and done.status_code == 200
    with client.stream("GET", "/push?run=here") as stream:
        assert stream.status_code == 200 and '"step":"60"' in next(stream.iter_lines())
    assert knock(server, headers={**cookies(client), "Origin": server}) == 101
    kept = cookies(client)
    with client.stream("GET", "/push?run=here") as stream:
        lines = stream.iter_lines()
        next(lines)
        assert client.get("/logout").url.path == "/login"
        assert not any(lines), "signing out ends what is open: nothing more comes, no sign of life either"
    assert ask(server, "/push", headers=kept).status == 401, "a cookie that was copied is worth nothing afterwards"
    assert client.get("/push").status_code in (200, 303) and "Sign in" in client.get("/push").text


def test_every_route_and_socket_needs_the_cookie(server: str, runs: Path) -> None:
    client, _, _ = walk(server)
    true = cookies(client)
    name, _, value = true["Cookie"].partition("_streamlit_user=")[2].partition(";")
    forged = {"Cookie": f"_streamlit_user={'A' + (name or value)[1:]}"}
    found = routes(runs)
    asked = [(filled(path), method) for kind, path, methods in found if kind == "Route" for method in methods]
    asked = [(path, method) for path, method in asked if path not in SIGN_IN | {"/_stcore/health"}] + [
        (path, "GET") for path in FILES
    ]
    statuses = {
        (path, method): [ask(server, path, method, headers).status for headers in ({}, forged, true)] for path, method in asked
    }
    wrong = {where: got for where, got in statuses.items() if got[:2] != [401, 401] or got[2] == 401}
    assert not wrong
    assert [knock(server, headers=headers) for headers in ({}, forged, true)] == [403, 403, 101]


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"email": "bob@example.org"}, False),
        ({"email": "bob@lab.example"}, True),
        ({"email": "bob@evil-lab.example"}, False),
        ({"email": "ANN@Example.org"}, True),
        ({"email": "ann@example.org", "email_verified": False}, False),
        ({"email": "ann@example.org", "email_verified": None}, False),
        ({"email": None, "name": "<img src=x onerror=alert(1)>"}, False),
    ],
)
def test_only_the_list_may_look(
    server: str, issuer: Provider, monkeypatch: pytest.MonkeyPatch, claims: dict, allowed: bool
) -> None:
    monkeypatch.setattr(issuer, "claims", {**issuer.claims, **claims})
    client, done, _ = walk(server)
    assert done.status_code == (200 if allowed else 403)
    assert ask(server, "/push", headers=cookies(client)).status == (200 if allowed else 403)
    assert knock(server, headers=cookies(client)) == (101 if allowed else 403)
    if not allowed:
        said = "Not on the list" if claims.get("email_verified", True) else "send the claim <code>email_verified</code>"
        assert said in done.text and "<img" not in done.text and "auth/logout" in done.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["secrets.toml", "[auth]", "redirect_uri ="]),
        ("nonsense [", ["secrets.toml", "[auth]"]),
        ('[auth]\nredirect_uri = "http://x/oauth2callback"\n', ["auth.cookie_secret", "auth.client_id", "auth.server_metadata_url"]),
        ('[auth]\nredirect_uri = "http://x/"\ncookie_secret = "{long}"\n{rest}', ["auth.redirect_uri", "/oauth2callback"]),
        ('[auth]\nredirect_uri = "http://x/oauth2callback"\ncookie_secret = "short"\n{rest}', ["auth.cookie_secret", "at least 32"]),
        ('[auth]\nredirect_uri = "http://x/oauth2callback"\ncookie_secret = "{long}"\n[auth.my_own]\n{rest}', ["auth.my_own", "underscore"]),
        ('[auth]\nredirect_uri = "http://x/oauth2callback"\ncookie_secret = "{long}"\n[auth.okta]\nclient_id = "1"\n',
         ["auth.okta.client_secret"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, text: str | None, words: list[str]) -> None:
    file = tmp_path / "secrets.toml"
    if text is not None:
        rest = f'client_id = "{CLIENT}"\nclient_secret = "s"\nserver_metadata_url = "http://x/y"\n'
        file.write_text(text.replace("{long}", "x" * 40).replace("{rest}", rest))
    before = config.get_option("secrets.files")
    config.set_option("secrets.files", [str(file)])
    secrets_singleton._reset()
    try:
        with pytest.raises(InputError) as caught:
            check_secrets()
    finally:
        config.set_option("secrets.files", before)
        secrets_singleton._reset()
    assert all(word in str(caught.value) for word in [*words, str(file)]), caught.value
