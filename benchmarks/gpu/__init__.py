"""The parts of ``benchmarks/gpu_check.py``. Its own process uses the standard library alone; workers import torch."""
