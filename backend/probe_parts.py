"""What the batches of a probe give: latents of sets, events as reconstructed from their own latents and from others."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from backend.batches import Batch
from backend.lit import SeqSetVAEModule
from backend.model import Encoded


@dataclass(frozen=True)
class SetPart:
    """Encoded sets, on the CPU: each [S] or [S, D]."""

    mu: Tensor
    logvar: Tensor
    prior_mu: Tensor
    prior_logvar: Tensor
    row: Tensor
    """The stay, a row of the data set's table"""
    set_row: Tensor
    minute: Tensor

    def only(self, set_rows: np.ndarray) -> "SetPart":
        """Those among `set_rows`."""
        keep = torch.from_numpy(np.isin(self.set_row.numpy(), set_rows))
        return SetPart(*(x[keep] for x in vars(self).values()))

    @classmethod
    def joined(cls, parts: list[Self]) -> "SetPart":
        """Several end to end."""
        return SetPart(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class DecodedPart:
    """Decoded sets and their events, on the CPU: S sets, E events."""

    sets: SetPart
    recon: Tensor
    """Loss of each set, [S]"""
    error: Tensor
    error_swapped: Tensor
    """From latents of another stay, [S]"""
    event_set: Tensor
    variable: Tensor
    value: Tensor
    mean: Tensor
    std: Tensor
    """NaN where the decoder has none, [E]"""
    occurrence: Tensor
    """Probability that each variable occurs, [S, V]; [S, 0] where the decoder has none"""
    state: Tensor
    """Causal state of the transformer over sampled latents, [S, W]; [S, 0] where the model uses none"""

    @classmethod
    def joined(cls, parts: list[Self]) -> "DecodedPart":
        """Several end to end."""
        first = np.cumsum([0, *(len(part.recon) for part in parts)])
        moved = [part.event_set + int(start) for part, start in zip(parts, first, strict=False)]
        rest = {
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name not in ("sets", "event_set")
        }
        return DecodedPart(sets=SetPart.joined([part.sets for part in parts]), event_set=torch.cat(moved), **rest)


def encoded_part(module: SeqSetVAEModule, batch: Batch) -> SetPart:
    """Latents of a batch whose sets need not be all of a stay."""
    return _set_part(module.net.encode(batch, sample=True), batch)


def decoded_part(module: SeqSetVAEModule, batch: Batch) -> DecodedPart:
    """Whole stays, decoded from their own latents and from latents swapped between them."""
    net = module.net
    encoded = net.encode(batch, sample=True)
    table = net.encoder.embed.table

    def state_of(z: Tensor) -> Tensor:
        return net.states(z, batch) if module.uses_sequence else z

    state, other = state_of(encoded.z), encoded.z[swap_between_stays(batch)]
    own, swapped = net.decoder_state(encoded.z, state), net.decoder_state(other, state_of(other))
    guess = net.decoder.reconstruct(own, batch, table)
    std = torch.full_like(guess.mean, torch.nan) if guess.std is None else guess.std
    occurrence = net.decoder.occurrence(own, batch)
    events = (
        net.decoder.loss(own, batch, table), net.decoder.error(own, batch, table), net.decoder.error(swapped, batch, table),
        batch.set_of_event, batch.variable, batch.value, guess.mean, std,
        own[:, :0] if occurrence is None else occurrence, state if module.uses_sequence else state[:, :0],
    )  # fmt: skip
    return DecodedPart(_set_part(encoded, batch), *(x.cpu() for x in events))


def _set_part(encoded: Encoded, batch: Batch) -> SetPart:
    tensors = (*encoded.posterior, *encoded.prior, batch.row[batch.stay_of_set], batch.set_row, batch.minute)
    return SetPart(*(x.cpu() for x in tensors))


def swap_between_stays(batch: Batch) -> Tensor:
    """For each set [S], a set of another stay: the stays trade places in a ring, each set taking one at the same share of time."""
    count = torch.bincount(batch.stay_of_set, minlength=batch.stays)
    first = count.cumsum(0) - count
    other = (batch.stay_of_set + 1) % batch.stays
    share = batch.position_of_set * count[other] // count[batch.stay_of_set]
    return first[other] + share


class EventTable:
    """Events laid out as [sets, variables]; of a variable that a set repeats, one event, the same for everything laid out."""

    def __init__(self, decoded: DecodedPart, column: Tensor) -> None:
        """`column` [V]: where a variable goes, -1 for one that is left out."""
        at = column[decoded.variable]
        self.shape = (len(decoded.recon), int(column.max()) + 1)
        event = torch.full((self.shape[0] * self.shape[1],), -1)
        kept = (at >= 0).nonzero().squeeze(1)
        event[decoded.event_set[kept] * self.shape[1] + at[kept]] = kept
        self.event = event.clamp(min=0)
        self.mask = (event >= 0).view(self.shape)

    def __call__(self, values: Tensor) -> Tensor:
        """Values of the events [E] as [sets, variables]; without meaning where `mask` is False."""
        return values[self.event].view(self.shape)
