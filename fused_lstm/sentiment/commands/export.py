"""export: a stored model as ONNX and torch.export programs."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..export_usage import USAGE_FILE, usage_text
from ..exporting import Answers, Exported, ExportError, export_onnx, export_torch
from ..machine import MachineOptions
from ..model_folder import CONFIG, VOCABULARY, WEIGHTS
from ..reports.files import write_files
from ..settings import build, setting
from ..store import load

PROGRAMS = ("both", "onnx", "torch")
ONNX, TORCH, LABELS, RECORD = "model.onnx", "model.pt2", "labels.json", "export.json"
SUMMARY = "write a stored model as ONNX and torch.export programs"
DETAILS = (
    f"Writes {ONNX} (needs the extra onnx), {TORCH}, {VOCABULARY} (of the library tokenizers), {LABELS},\n"
    f"{USAGE_FILE} and {RECORD}. Any number of texts of any length; results are compared with the model's before\n"
    "anything is written."
)


@dataclass(frozen=True)
class ExportOptions:
    """Export."""

    programs: str = setting("both", "what to write", choices=PROGRAMS)


def groups() -> dict[str, type]:
    return {"export": ExportOptions, "machine": MachineOptions}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder written by train")
    parser.add_argument("output", metavar="OUTPUT", help="folder to write into")


def run(arguments: argparse.Namespace) -> int:
    options, machine = build(ExportOptions, arguments), build(MachineOptions, arguments)
    machine.apply()
    if machine.lstm != "fused":
        raise ExportError("nn.LSTM needs packed input, which no export can express; leave --lstm at fused")
    source, output = Path(arguments.model), Path(arguments.output)
    if (output / CONFIG).exists():
        raise ExportError(f"{output}: is a model folder; choose another one for the export")
    model = load(source, machine.lstm)
    labels = model.settings.classes
    programs: dict[str, Exported] = {}
    if options.programs in ("both", "onnx"):
        programs[ONNX] = export_onnx(model.network, labels)
    if options.programs in ("both", "torch"):
        programs[TORCH] = export_torch(model.network)
    checks = {name: _words(program) for name, program in programs.items()}
    record = {
        "model": hashlib.sha256((source / WEIGHTS).read_bytes()).hexdigest(),
        "max_length": model.settings.max_length,
        "programs": {name: {"bytes": len(p.content), "deviation": p.deviation} for name, p in programs.items()},
    }
    usage = usage_text(list(programs), Answers(model.network).output, model.settings.max_length, checks)
    contents = {name: program.content for name, program in programs.items()}
    contents |= {VOCABULARY: (source / VOCABULARY).read_bytes(), USAGE_FILE: usage}
    write_files(output, contents | {LABELS: list(labels), RECORD: record})
    for name, words in checks.items():
        print(f"{output / name}: {words}")
    print(f"How to use them: {output / USAGE_FILE}")
    return 0


def _words(program: Exported) -> str:
    if program.deviation is None:
        return f"not compared with the model: {program.reason}"
    return f"compared with the model, at most {program.deviation:.1g} away"
