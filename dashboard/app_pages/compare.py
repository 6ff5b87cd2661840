"""Being built."""

import streamlit as st

st.html("<p>Being built.</p>")
