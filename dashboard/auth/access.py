"""Who may see the dashboard, as the command line says it: `--host`, `--auth` and what belongs to them."""

import argparse
import os
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

from starlette.types import ASGIApp

from dashboard.auth.guard import Guard
from dashboard.auth.hosts import Hosts, host_name, is_local
from dashboard.auth.token import MIN_LENGTH
from shared.errors import InputError

if TYPE_CHECKING:
    from dashboard.auth.gates import OidcGate, TokenGate

VARIABLE = "SEQSETVAE_TOKEN"
WAYS = ("token", "oidc", "proxy")
Way = Literal["none", "token", "oidc", "proxy"]
HOW = (
    "Choose one:\n"
    "  --auth token   one access token, made up and printed at the start, or from --token-file FILE or the variable SEQSETVAE_TOKEN\n"
    "  --auth oidc    sign-in with accounts of your organisation, set up under [auth] in .streamlit/secrets.toml\n"
    "  --auth proxy   only where a proxy in front asks for a sign-in and nobody else can reach the port\n"
    "Or keep the default --host and open a tunnel: ssh -L 8501:localhost:8501 MACHINE"
)


@dataclass(frozen=True)
class Access:
    """What was decided at the start."""

    way: Way
    hosts: Hosts
    gate: "TokenGate | OidcGate | None" = None
    query: str = ""
    """Appended to the printed address: the token, when it was made up just now."""
    advice: str = ""
    """Printed below the address."""
    origin: str = ""
    """The address that people use, where the sign-in prescribes one."""

    def guard(self, app: ASGIApp) -> Guard:
        """The application behind what was decided."""
        return Guard(app, self.hosts, self.gate)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options about access."""
    group = parser.add_argument_group("who may see it", "needed as soon as --host lets other machines in")
    group.add_argument(
        "--auth", choices=WAYS, help="token: one access token; oidc: accounts of your organisation, from [auth] in .streamlit/secrets.toml; "
        "proxy: a proxy in front has asked already, and nobody else reaches the port",
    )  # fmt: skip
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"file that holds the access token (else the variable {VARIABLE}, else one is made up)"
    )  # fmt: skip
    group.add_argument(
        "--allow-user", action="append", default=[], metavar="EMAIL",
        help="with --auth oidc: an address, or a domain such as example.org, that may look; may be repeated (default: everybody whom the "
        "provider signs in)",
    )  # fmt: skip
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="a further name under which people reach the dashboard, such as that of a proxy; may be repeated",
    )  # fmt: skip


def decide(args: argparse.Namespace, environment: MutableMapping[str, str] = os.environ) -> Access:
    """What the options amount to. Takes the token out of the environment: programs started from here need not know it.

    Raises:
        InputError: they do not fit together, or something they name is missing; says what to do.
    """
    _check(args)
    names = [_name(given) for given in args.allow_host]
    if args.auth == "token":
        from dashboard.auth.gates import TokenGate  # gates load Streamlit, which the server without any does while it serves

        token, query, advice = _token(args.token_file, environment)
        return Access("token", Hosts(names, anybody=not names), TokenGate(token), query, advice)
    if args.auth == "oidc":
        from dashboard.auth.gates import OidcGate
        from dashboard.auth.oidc import Oidc

        oidc = Oidc(args.allow_user, args.port)
        advice = "" if args.allow_user else "everybody whom the provider signs in may look; narrow it with --allow-user"
        return Access("oidc", Hosts([*names, oidc.host]), OidcGate(oidc), advice=advice, origin=oidc.origin)
    if args.auth == "proxy":
        return Access("proxy", Hosts(names), advice="whoever reaches this port past the proxy sees everything")
    return Access("none", Hosts([*names, args.host]))


def _check(args: argparse.Namespace) -> None:
    if args.auth is None and not is_local(args.host):
        raise InputError(f"--host {args.host} lets other machines in, so --auth must say who may see the runs. {HOW}")
    if args.token_file is not None and args.auth != "token":
        raise InputError("--token-file belongs to --auth token; add that, or leave --token-file out")
    if args.allow_user and args.auth != "oidc":
        raise InputError("--allow-user belongs to --auth oidc: with a token nobody knows who is looking")
    if args.auth == "proxy" and not args.allow_host:
        raise InputError("--auth proxy needs --allow-host NAME, the name under which people reach the proxy")


def _name(given: str) -> str:
    name = host_name(given)
    if name is None:
        raise InputError(f"--allow-host {given}: not a name such as monitor.example.org; leave out https:// and paths")
    return name


def _token(path: Path | None, environment: MutableMapping[str, str]) -> tuple[str, str, str]:
    """The token, what to add to the printed address, and what to print below it."""
    variable = environment.pop(VARIABLE, "").strip()
    if path is None and not variable:
        token = secrets.token_urlsafe(32)
        return token, "/?" + urlencode({"token": token}), "the address holds the access token: whoever has it sees the runs"
    token, source = (_read(path), f"--token-file {path}") if path is not None else (variable, f"the variable {VARIABLE}")
    if len(token) < MIN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{source}: an access token has at least {MIN_LENGTH} characters, without blanks or letters with accents; this one has "
            f"{len(token)}. Make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token, "", f"sign in with the access token from {source}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"--token-file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--token-file {path}: not text") from error
