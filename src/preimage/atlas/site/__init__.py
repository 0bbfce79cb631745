"""The pages of an atlas: static files that a browser opens without any server."""

from preimage.atlas.site.writing import write_site

__all__ = ["write_site"]
