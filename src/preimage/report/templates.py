"""Templates, style sheets and scripts of the pages, which lie beside this file."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from preimage.errors import RequestError


def text(name: str) -> str:
    """A template, style sheet or script of the reports."""
    return (files("preimage.report") / name).read_text("utf-8")


def environment() -> Any:
    """Renders the templates of the reports; raises `RequestError` where Jinja is not installed."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise RequestError("reports need the package jinja2: pip install 'preimage[report]'") from error
    loader = jinja2.FunctionLoader(text)
    made = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=loader)
    made.filters["json"] = json.dumps
    return made
