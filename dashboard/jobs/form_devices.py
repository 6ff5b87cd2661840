"""Which device the job is to hold: any free GPU, chosen ones, or the CPU."""

import streamlit as st

from dashboard.jobs.devices import Gpu
from dashboard.jobs.draft import Draft
from dashboard.service import service
from dashboard.widgets import el

ANY, CHOSEN, CPU = "Any free GPU", "Choose GPUs", "CPU"


def choose_device(draft: Draft) -> tuple[str, list[str]]:
    """What the queue is asked for, and the lanes that the copied command should name; the draft's options follow."""
    machine = service().jobs.devices.look()
    if not machine.gpus:
        why = machine.problem or "no GPU can be seen on this machine"
        st.html(el("p", el("strong", "Device: CPU"), f" · {machine.cores} cores · {why}", cls="sv-why"))
        draft.devices = {}
        return "cpu", []
    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = st.segmented_control(
            "Device", [ANY, CHOSEN, CPU], default=ANY, required=True, key="device", persist_state="session",
            help="One job at a time per GPU. A job for any free GPU takes the one with the most memory free.",
        )  # fmt: skip
        if how == CHOSEN:
            chosen = st.multiselect("GPUs", list(machine.gpus), default=[machine.gpus[0]], format_func=_title, key="gpus")
            cards = chosen or [machine.gpus[0]]
            draft.devices = {"devices": len(cards)} if len(cards) > 1 else {}
            in_use = [f"{gpu.processes} on GPU {gpu.index} ({gpu.memory})" for gpu in cards if gpu.processes]
            if in_use:
                st.html(el("p", f"Processes there already: {'; '.join(in_use)}. Memory may be short.", cls="sv-dim sv-why"))
            return f"gpu:{','.join(str(gpu.index) for gpu in cards)}", [f"gpu {gpu.index}" for gpu in cards]
    draft.devices = {"accelerator": "cpu"} if how == CPU else {}
    return ("cpu", []) if how == CPU else ("gpu", [])


def _title(gpu: Gpu) -> str:
    return f"GPU {gpu.index} · {gpu.name} · {gpu.memory}"
