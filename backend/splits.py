"""Which subject belongs to training, validation or test."""

import hashlib
from collections.abc import Iterable

from shared.errors import InputError


def split_by_subject(subjects: Iterable[str], *, valid: float, test: float, seed: int) -> dict[str, str]:
    """Subject to "train", "valid" or "test": exact shares, decided by the ids and the seed, whatever their order.

    Subjects are ranked by a keyed hash, so that a few more of them move few others.

    Raises:
        InputError: shares that leave nothing for training.
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise InputError(f"--valid {valid:g} and --test {test:g}: both must be at least 0, and their sum below 1")
    key = str(seed).encode()
    ranked = sorted(set(subjects), key=lambda subject: hashlib.blake2b(subject.encode(), key=key, digest_size=16).digest())
    tests = round(len(ranked) * test)
    valids = round(len(ranked) * valid)
    return {
        subject: "test" if rank < tests else "valid" if rank < tests + valids else "train"
        for rank, subject in enumerate(ranked)
    }
