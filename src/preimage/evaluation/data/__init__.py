"""Data sets in the formats that people have: what is on each photo, and what is wrong with the files."""

from preimage.evaluation.data.example import Annotation, Box, Data, Example, Fault, Region
from preimage.evaluation.data.opening import open_data

__all__ = ["Annotation", "Box", "Data", "Example", "Fault", "Region", "open_data"]
