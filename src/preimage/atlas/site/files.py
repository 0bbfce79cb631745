"""The files of a site, beside the parts of its atlas."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from typing import Any

from PIL import Image

from preimage.jobs.storage import Storage

PAGE = "index.html"
_FOLDER = "site"


class SiteFiles:
    """Writes files by name into the folder of a site, each whole or not at all, over those of an earlier writing.

    All raise `WriteError` where there is no room, or no leave, to write.
    """

    def __init__(self, storage: Storage):
        self._storage = storage

    @property
    def page(self) -> str:
        """The path or URL of the page."""
        return self._storage.path(f"{_FOLDER}/{PAGE}")

    def write(self, name: str, content: bytes) -> None:
        """A file, by its name in the site."""
        self._storage.write(f"{_FOLDER}/{name}", content)

    def write_picture(self, name: str, image: Image.Image, *, lossless: bool, quality: int = 90) -> None:
        """A picture as WebP."""
        buffer = io.BytesIO()
        if lossless:
            image.save(buffer, format="WEBP", lossless=True, quality=50)
        else:
            # Method 2 takes half the time of the default, for files that are one per cent larger.
            image.save(buffer, format="WEBP", quality=quality, method=2)
        self.write(name, buffer.getvalue())

    def write_call(self, name: str, function: str, *values: Any) -> None:
        """A script that hands plain JSON values to a function of the page.

        A script, because a page that is opened from a folder may not read any other file.
        """
        # (all but ASCII is escaped, so that no encoding and no line separator can spoil it)
        said = ", ".join(json.dumps(value, allow_nan=False, separators=(",", ":")) for value in values)
        self.write(name, f"{function}({said});\n".encode("ascii"))

    def write_scripts(self) -> None:
        """Scripts and style sheet of the page, which are the same for every atlas."""
        for one in sorted((files("preimage.atlas.site") / "page").iterdir(), key=lambda one: one.name):
            if one.name.endswith((".js", ".css")):
                self.write(one.name, one.read_bytes())

    def write_page(self) -> None:
        """The page itself, the same for every atlas."""
        self.write(PAGE, (files("preimage.atlas.site") / "page" / PAGE).read_bytes())
