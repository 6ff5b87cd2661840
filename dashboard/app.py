"""The entry script of every session: registers the pages. Started by `python -m dashboard`."""

from pathlib import Path

import streamlit as st

from dashboard.components import follow_theme, styles
from dashboard.notify.ui import bell, require_sign_in

HERE = Path(__file__).parent

st.set_page_config(
    page_title="SeqSetVAE Monitor",
    page_icon=str(HERE / "frontend" / "icon.svg"),
    layout="wide",
    menu_items={"About": "**SeqSetVAE Monitor** watches the posterior of a variational autoencoder while it trains."},
)
st.logo(str(HERE / "frontend" / "logo.svg"), size="medium")
st.html(f"<style>{styles()}</style>")
pages = [st.Page(HERE / "app_pages" / "runs.py", title="Runs", icon=":material/list:", default=True)]
pages += [
    st.Page(HERE / "app_pages" / f"{name}.py", title=title, icon=f":material/{icon}:", url_path=name)
    for name, title, icon in (
        ("live", "Live", "monitoring"),
        ("compare", "Compare", "stacked_line_chart"),
        ("checkpoints", "Checkpoints", "save"),
        ("latent", "Latent space", "scatter_plot"),
        ("reconstruction", "Reconstruction", "difference"),
        ("jobs", "Jobs", "play_circle"),
    )
]
page = st.navigation(pages, position="top")
require_sign_in()
told_of = bell()
follow_theme()
if told_of:
    st.switch_page(HERE / "app_pages" / "live.py", query_params={"run": told_of})
page.run()
