"""A network that other processes open for themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from preimage.network.loading import load
from preimage.network.opened import Network


@dataclass
class LazyNetwork:
    """A network that is opened when it is first used, in each process once.

    network: a string for `preimage.load`, of which only the string is sent to another process; or one that is opened,
        which is sent as it is. device: where the string's is put; default: where its factory leaves it.
    """

    network: Network | str
    device: str | None = None
    _opened: Network | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def opened(self) -> Network:
        """The network, in this process; raises `RequestError` as `preimage.load` does."""
        if self._opened is None:
            self._opened = load(self.network, device=self.device) if isinstance(self.network, str) else self.network
        return self._opened
