"""The whole application behind the front: importing this takes a second, so the server does it while it already answers."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from streamlit.components.v2 import manifest_scanner

from dashboard.compare.export import export_route
from dashboard.compare.parts import part_route
from dashboard.compare.view import REPORT
from dashboard.components import plotly_route
from dashboard.front import Loaded
from dashboard.live import windows
from dashboard.service import Service

SCRIPT = Path(__file__).with_name("app.py")


def application(service: Service) -> st.App:
    """All that the server answers, without the guard and the front. Routes of the dashboard's own are listed here."""
    parts = windows.Windows()
    routes = [
        service.revisions.route(),
        service.rows.route(),
        plotly_route(),
        windows.route(service.store.snapshot, parts),
        part_route(service.store.snapshot, parts),
        export_route(service.runs),
        report_route(service),
    ]
    return st.App(SCRIPT, lifespan=service.lifespan, routes=routes)


def report_route(service: Service) -> Route:
    """`GET /compare-report?...`: a comparison as one file."""

    def send(request: Request) -> Response:
        from dashboard.compare.report import answer  # loads pandas, which the server does without until somebody wants a table

        return answer(service, request)

    return Route(REPORT, send, methods=["GET"])


def loaded(service: Service) -> Loaded:
    """The application around a service, as the front takes it."""
    app = application(service)
    return Loaded(app, _running(app), service.revisions.close)


@contextmanager
def packages_unread() -> Iterator[None]:
    """Streamlit looks for components in the metadata of every installed package, a sixth of a second of work; none are used here."""
    found = manifest_scanner.scan_component_manifests
    manifest_scanner.scan_component_manifests = lambda max_workers=None: []
    try:
        yield
    finally:
        manifest_scanner.scan_component_manifests = found


@asynccontextmanager
async def _running(app: st.App) -> AsyncIterator[None]:
    with packages_unread():
        running = app.lifespan()
    async with running(app):
        for name in ("uvicorn.access", "uvicorn.error", "uvicorn"):  # Streamlit turns these on again as it starts
            logging.getLogger(name).setLevel(logging.WARNING)
        yield
