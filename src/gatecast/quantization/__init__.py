"""From a float Graph to a quantised one: everything that decides a number happens here, once."""

from .quantize import quantize, quantize_with_report
from .report import Flushed, LayerFormats, Report

__all__ = ["Flushed", "LayerFormats", "Report", "quantize", "quantize_with_report"]
