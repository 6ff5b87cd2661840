"""Loader processes leave Ctrl-C to the trainer and end on SIGTERM, whatever the trainer itself does with both."""

import signal
from types import SimpleNamespace

from torch.utils.data import Dataset

from backend.batches import loader
from backend.stopping import stop_signals


class Handlers(Dataset):
    config = SimpleNamespace(persistent_workers=False)

    def __getitem__(self, rows):
        return [signal.getsignal(signal.SIGINT) is signal.SIG_IGN, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL]


def test_workers_ignore_ctrl_c_and_end_on_sigterm():
    with stop_signals():
        assert list(loader(Handlers(), [[0]], 1, False)) == [[True, True]]
