"""The names of `azureml.core` and `azureml.accel`, mapped onto Gatecast's own; no logic of their own.

Each module here stands for one of theirs, with the old arguments, defaults, properties, printed progress and
exceptions. `python -m gatecast.compat run script.py` runs a script with these names in place.
"""

from .names import install

__all__ = ["install"]
