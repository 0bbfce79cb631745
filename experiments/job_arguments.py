"""How an experiment is told to spread its work: over processes of this machine, or over a Ray cluster."""

from __future__ import annotations

import argparse

from preimage.errors import RequestError
from preimage.jobs import check_workers


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """`--workers` and `--ray`, of which `check_job_arguments` asks that they can be had."""
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="a Ray cluster that does the work: HOST:PORT or auto; its machines need this folder, and $PREIMAGE_CACHE, "
        "by the same paths",
    )


def check_job_arguments(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    """Ends with a sentence where there are no such workers, before anything is computed."""
    try:
        check_workers(asked.workers, asked.ray)
    except RequestError as error:
        parser.error(str(error))
