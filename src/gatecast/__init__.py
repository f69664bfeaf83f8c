"""Deploy vision DNNs to FPGAs as web services with ultra-low latency at batch 1."""

__version__ = "0.1.0"
