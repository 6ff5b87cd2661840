"""Where notices go besides the pages, as the command line says it."""

import argparse
import os
import shlex
import shutil
from collections.abc import MutableMapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.errors import InputError

if TYPE_CHECKING:
    from dashboard.notify.send import Way

VARIABLE = "SEQSETVAE_NOTIFY_WEBHOOK"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options about notices."""
    group = parser.add_argument_group(
        "notices", "of verdicts, and of runs that finished, failed, were interrupted or went silent"
    )
    group.add_argument(
        "--notify-webhook", metavar="URL",
        help="POST each notice there as JSON; fits Slack and Mattermost. Its path is usually a secret, and `ps` shows it: the variable "
        f"{VARIABLE} keeps it out of sight",
    )  # fmt: skip
    group.add_argument(
        "--notify-command", metavar="COMMAND",
        help="run this for each notice, with the notice as JSON on its standard input and in variables SEQSETVAE_NOTICE_RUN, _TITLE, _DETAIL, "
        "_SEVERITY, _URL ...; no shell reads it",
    )  # fmt: skip
    group.add_argument(
        "--notify-address",
        metavar="URL",
        help="address of this dashboard for links in notices (default: the one printed at the start)",
    )


def ways_out(args: argparse.Namespace, environment: MutableMapping[str, str] = os.environ) -> "tuple[Way, ...]":
    """What the options ask for. Takes the webhook out of the environment: programs started from here need not know it.

    Raises:
        InputError: an address that is none, or a command that is not there.
    """
    variable = environment.pop(VARIABLE, "")
    url = args.notify_webhook or variable
    if args.notify_address is not None:
        _check_url("--notify-address", args.notify_address)
    if not url and args.notify_command is None:
        return ()
    from dashboard.notify.send import Command, Webhook  # loads what the server loads while it serves

    ways: list[Way] = []
    if url:
        option = "--notify-webhook" if args.notify_webhook else f"the variable {VARIABLE}"
        _check_url(option, url)
        ways.append(Webhook(url))
    if args.notify_command is not None:
        ways.append(Command(_words(args.notify_command)))
    return tuple(ways)


def _check_url(option: str, url: str) -> None:
    """The value is not repeated: it may be a secret."""
    try:
        parts = urlsplit(url)
        valid = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port or 1) > 0
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f"{option} must be an address that begins with https:// or http:// and names a host")


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"--notify-command {command}: {error}") from error
    if not words:
        raise InputError("--notify-command is empty; give a program and its arguments, or leave it out")
    found = shutil.which(words[0])
    if found is None:
        raise InputError(f"--notify-command: no program {words[0]} can be run here; give its full path, and make it executable")
    return [os.path.abspath(found), *words[1:]]  # noqa: PTH100
