"""The entry script of every session: registers the pages. Started by `python -m dashboard`."""

from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent

st.set_page_config(
    page_title="SeqSetVAE Monitor",
    page_icon=str(HERE / "frontend" / "icon.svg"),
    layout="wide",
    menu_items={"About": "**SeqSetVAE Monitor** watches the posterior of a variational autoencoder while it trains."},
)
st.logo(str(HERE / "frontend" / "logo.svg"), size="medium")
st.html(HERE / "frontend" / "style.css")
page = st.navigation(
    [
        st.Page(HERE / "app_pages" / "runs.py", title="Runs", icon=":material/list:", default=True),
        st.Page(HERE / "app_pages" / "live.py", title="Live", icon=":material/monitoring:", url_path="live"),
    ],
    position="top",
)
page.run()
