"""What a run writes beside the model."""

from __future__ import annotations

from dataclasses import dataclass

from .settings import at_least, setting, share

DEFAULT_OUTPUT = "runs/sentiment"


@dataclass(frozen=True)
class ReportOptions:
    """Output."""

    output: str = setting(DEFAULT_OUTPUT, "model and report", metavar="FOLDER")
    target_accuracy: float | None = setting(None, "fail if test accuracy is below P (0 to 1)", share, metavar="P")
    baseline: bool = setting(True, "put a linear n-gram model beside the LSTM in the report")
    baseline_order: int = setting(2, "longest n-gram of that model", at_least(1))
    plots: bool = setting(True, "write PNG files")
