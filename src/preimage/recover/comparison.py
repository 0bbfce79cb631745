"""What `compare` returns: which features of two networks correspond, three ways, and how far correlation agrees."""

from __future__ import annotations

import html
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import to_pil, writable_folder, written_whole
from preimage.recover.recovery import STANDS_OUT
from preimage.result import figure_html, number

Ranking = Literal["objective", "residual", "response"]
RANKINGS: tuple[Ranking, ...] = get_args(Ranking)
_NAMES: dict[Ranking, str] = {
    "objective": "the recovered objective",
    "residual": "the residual",
    "response": "the response",
}
AMONG = 5
_RESAMPLES, _LEVEL = 2000, 0.95
_FEWEST = 5
"""Of fewer channels an interval says nothing."""


@dataclass(frozen=True)
class Estimate:
    """A mean over the realised channels, its 95 % bootstrap interval (the channels being drawn again; None for fewer
    than 5), and what random matching comes to."""

    mean: float
    interval: tuple[float, float] | None
    chance: float

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        interval = None if self.interval is None else [number(value) for value in self.interval]
        return {"mean": number(self.mean), "interval": interval, "chance": number(self.chance)}


@dataclass(frozen=True)
class MatchRate:
    """How far one ranking agrees with correlation.

    first, among_five: the share of channels whose best-correlated channel it has first, or among its first five.
    rank: of the best-correlated channel, from 1. correlation: of the channel that it has first.
    """

    by: Ranking
    first: Estimate
    among_five: Estimate
    rank: Estimate
    correlation: Estimate

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        parts = {name: getattr(self, name).as_dict() for name in ("first", "among_five", "rank", "correlation")}
        return {"by": self.by, **parts}


@dataclass
class Comparison:
    """Channels of a first network, and what their realisations are to a second.

    names: of the two networks. taps: in each.
    channels: of the first, realised, [N]. images: the realisations, float32 [N, C, H, W] in [0, 1].
    weights: float64 [N, M], of the second network's M channels in the objective that it recovers from each image.
    residuals: how much of each channel's own gradient is left, |e_j^T Z_k Dy| / |Dy_j|: 0 if the image is a maximum for
        channel j, 1 if nothing cancels. responses: of each channel, in its usual size.
    correlations: Pearson's, of the two channels' responses over the photos, [N, M]; None without photos.
    All four are NaN in the columns of dead channels.
    cosines: of each realisation's response, in the first network, with the channel that was asked. own_angles: degrees
        between that and the objective that the first network itself recovers: whether the realisation is a maximum.
    ratios: the smallest singular value in the second network as a share of the next (`Recovery.ratio`).
    dead: channels of the first and of the second network that answer every picture alike, and were left out.
    settings, interrupted: as in `Result`.
    """

    names: tuple[str, str]
    taps: tuple[str, str]
    channels: list[int]
    images: Tensor
    weights: Tensor
    residuals: Tensor
    responses: Tensor
    correlations: Tensor | None
    cosines: Tensor
    own_angles: Tensor
    ratios: Tensor
    dead: tuple[list[int], list[int]]
    settings: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def alive(self) -> int:
        """How many channels of the second network may correspond."""
        return self.weights.shape[1] - len(self.dead[1])

    @property
    def stands_out(self) -> Tensor:
        """Whether one objective of the second network explains the image clearly better than all others, bool [N]."""
        return self.ratios <= STANDS_OUT

    def ranked(self, by: Ranking) -> Tensor:
        """The second network's channels for each realisation, the likeliest first, int64 [N, alive].

        By residual, channels that answer negatively come after all others: the image would be their minimum.

        Raises `RequestError` for another ranking than "objective", "residual" and "response".
        """
        if by not in RANKINGS:
            raise RequestError(f"channels are ranked by {', '.join(RANKINGS)}, not '{by}'")
        score = {"objective": self.weights, "residual": -self.residuals, "response": self.responses}[by]
        order = torch.sort(score.nan_to_num(nan=-torch.inf), dim=1, descending=True, stable=True).indices
        if by == "residual":
            negative = (self.responses <= 0).gather(1, order)
            order = order.gather(1, torch.sort(negative.long(), dim=1, stable=True).indices)
        alive = torch.ones(score.shape[1], dtype=torch.bool)
        alive[self.dead[1]] = False
        left: Tensor = order[alive[order]].view(len(self), self.alive)
        return left

    def best_correlated(self) -> Tensor:
        """The channel of the second network whose responses go with each realised channel's best, int64 [N].

        Raises `RequestError` where no photos were given.
        """
        return self._correlations().nan_to_num(nan=-torch.inf).argmax(1)

    def match_rate(self, by: Ranking) -> MatchRate:
        """How far a ranking agrees with correlation; raises `RequestError` where no photos were given."""
        correlations, order = self._correlations(), self.ranked(by)
        rank = 1 + (order == self.best_correlated()[:, None]).long().argmax(1).double()
        picked = correlations.gather(1, order[:, :1])[:, 0]
        count = self.alive
        return MatchRate(
            by,
            _estimate((rank <= 1).double(), 1 / count),
            _estimate((rank <= AMONG).double(), min(1.0, AMONG / count)),
            _estimate(rank, (count + 1) / 2),
            _estimate(picked, float(correlations.nanmean())),
        )

    def _correlations(self) -> Tensor:
        if self.correlations is None:
            raise RequestError("no photos were given, so there is no correlation to compare with (compare(photos=...))")
        return self.correlations

    def says(self) -> str:
        """How far the recovered correspondence agrees with correlation, in a sentence."""
        count = len(self)
        lead = f"{count} channel{'' if count == 1 else 's'} of {self.names[0]} {self.taps[0]}"
        where = f"{self.names[1]} {self.taps[1]}"
        if self.correlations is None:
            return (
                f"{lead} realised and recovered in {where}: one objective stands out for "
                f"{int(self.stands_out.sum())} of them; without photos there is no correlation to check against"
            )
        rates = [self.match_rate(by) for by in RANKINGS]
        parts = [
            f"{_NAMES[rate.by]} {rate.first.mean:.0%} of the time ({rate.among_five.mean:.0%} among {AMONG})"
            for rate in rates
        ]
        return (
            f"of {lead}, the channel of {where} that correlates best is named first by {parts[0]}, by {parts[1]} and "
            f"by {parts[2]}, by chance {rates[0].first.chance:.1%} ({rates[0].among_five.chance:.1%})"
        )

    def table(self) -> list[dict[str, Any]]:
        """For each realised channel, as plain JSON types: the channel of the second network that each ranking has
        first, and, where photos were given, the best-correlated one, the correlation of all of these, and the rank that
        the best-correlated one has by each."""
        orders = {by: self.ranked(by) for by in RANKINGS}
        values = {"objective": self.weights, "residual": self.residuals, "response": self.responses}
        best = None if self.correlations is None else self.best_correlated()
        rows = []
        for i, channel in enumerate(self.channels):
            row: dict[str, Any] = {
                "channel": channel,
                "cosine": number(float(self.cosines[i])),
                "own_angle": number(float(self.own_angles[i])),
                "ratio": number(float(self.ratios[i])),
                "stands_out": bool(self.stands_out[i]),
            }
            for by, order in orders.items():
                first = int(order[i, 0])
                row[by] = {"channel": first, "value": number(float(values[by][i, first]))}
                if self.correlations is not None and best is not None:
                    row[by]["correlation"] = number(float(self.correlations[i, first]))
                    row[by]["rank_of_best_correlated"] = 1 + int((order[i] == best[i]).nonzero()[0, 0])
            if self.correlations is not None and best is not None:
                match = int(best[i])
                row["best_correlated"] = {"channel": match, "value": number(float(self.correlations[i, match]))}
            rows.append(row)
        return rows

    def __str__(self) -> str:
        header = [f"{self.names[0]} {self.taps[0]}", *(f"by {by}" for by in RANKINGS), "by correlation", "own angle"]
        lines = [header]
        for row in self.table():
            cells = [f"{row[by]['channel']} ({row[by]['value']:.2f})" for by in RANKINGS]
            match = row.get("best_correlated")
            cells.append("-" if match is None else f"{match['channel']} ({match['value']:.2f})")
            lines.append([str(row["channel"]), *cells, f"{row['own_angle']:.1f}"])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        dead = [
            f"dead in {name} {tap}: {', '.join(map(str, some))}"
            for name, tap, some in zip(self.names, self.taps, self.dead, strict=True)
            if some
        ]
        return "\n".join([*text, *dead, self.says()])

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds: plain JSON types, NaN as null."""
        whole = {"weights": self.weights, "residuals": self.residuals, "responses": self.responses}
        if self.correlations is not None:
            whole["correlations"] = self.correlations
        rates = [] if self.correlations is None else [self.match_rate(by).as_dict() for by in RANKINGS]
        table = [{**row, "file": name} for row, name in zip(self.table(), self.file_names(), strict=True)]
        return {
            "preimage": version("preimage"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            **self.settings,
            "interrupted": self.interrupted,
            "says": self.says(),
            "dead": [list(some) for some in self.dead],
            "agreement_with_correlation": rates,
            "table": table,
            **{name: [[number(value) for value in line] for line in one.tolist()] for name, one in whole.items()},
        }

    def file_names(self) -> list[str]:
        """One PNG name per realisation."""
        digits = len(str(max(self.channels, default=0)))
        return [f"channel-{channel:0{digits}}.png" for channel in self.channels]

    def save(self, folder: str | Path) -> Path:
        """Write the realisations and then `result.json` into `folder` (made if needed), each whole or not at all.

        Raises `RequestError` if the folder cannot be written to.
        """
        path = writable_folder(folder)
        for image, name in zip(self.images, self.file_names(), strict=True):
            with written_whole(path / name) as file:
                to_pil(image).save(file)
        with written_whole(path / "result.json") as file:
            file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        cells = []
        for image, row in zip(self.images, self.table(), strict=True):
            match = row.get("best_correlated")
            found = ", ".join(f"{by} {row[by]['channel']}" for by in RANKINGS)
            said = found if match is None else f"{found}; correlation {match['channel']} ({match['value']:.2f})"
            cells.append(figure_html(image, f"{self.names[0]} {self.taps[0]}:{row['channel']}", said))
        return f"<p>{html.escape(self.says())}</p>" + "".join(cells)


def _estimate(values: Tensor, chance: float) -> Estimate:
    numbers = values.numpy()
    mean = float(numbers.mean())
    if len(numbers) < _FEWEST:
        return Estimate(mean, None, chance)
    drawn = np.random.default_rng(0).choice(numbers, (_RESAMPLES, len(numbers))).mean(1)
    low, high = np.percentile(drawn, [50 * (1 - _LEVEL), 50 * (1 + _LEVEL)])
    return Estimate(mean, (float(low), float(high)), chance)
