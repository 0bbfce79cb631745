"""What tells a job's settings from others'."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(document: Any) -> str:
    """The same for the same settings, in 16 hexadecimal digits. document: a text, or plain JSON types."""
    text = document if isinstance(document, str) else json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
