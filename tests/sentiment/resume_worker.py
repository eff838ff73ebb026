"""A training run for test_resume to kill: says when it has begun, and at the end a hash of the weights.

usage: resume_worker.py classifier|language-model FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch

from fused_lstm.sentiment.checkpoints import Checkpoints
from fused_lstm.sentiment.model import ModelConfig, SentimentClassifier
from fused_lstm.sentiment.predictor import number_examples
from fused_lstm.sentiment.tokens import Vocabulary, tokenize
from fused_lstm.sentiment.train_settings import ClassifierTraining
from fused_lstm.sentiment.training import fit
from sentiment.conftest import easy_examples

CLASSES = ("bad", "good")


def classifier(folder: Path) -> tuple[torch.nn.Module, list]:
    """Everything that has a state: dropout of every kind, Adam, an average of weights, a schedule."""
    examples = easy_examples(900)
    vocabulary = Vocabulary.build((tokenize(e.text) for e in examples), min_count=2)
    train, dev = (number_examples(part, vocabulary, CLASSES, 20) for part in (examples[:800], examples[800:]))
    config = ModelConfig(
        len(vocabulary), 2, embedding=12, hidden=10, layers=2, weight_dropout=0.3, embedding_dropout=0.1
    )
    model = SentimentClassifier(config)
    settings = ClassifierTraining(
        epochs=6, batch_size=8, schedule="one-cycle", averaging="ema", patience=6, adversarial=2.0, crop=0.8
    )
    checkpoints = Checkpoints(folder, {"settings": "as ever"}, steps=7)
    say_when_begun(model)
    result = fit(model, train, dev, CLASSES, settings, checkpoints=checkpoints)
    history = [(m.epoch, m.train_loss, m.dev_loss, m.dev_accuracy) for m in result.history]
    return model, [result.best_epoch, history]


def say_when_begun(model: torch.nn.Module) -> None:
    def hook(*_) -> None:
        handle.remove()
        print("begun", flush=True)

    handle = model.register_forward_pre_hook(hook)


def main() -> None:
    torch.set_num_threads(1)
    kind, folder = sys.argv[1], Path(sys.argv[2])
    model, told = {"classifier": classifier}[kind](folder)
    weights = b"".join(t.numpy().tobytes() for t in model.state_dict().values())
    print(json.dumps([hashlib.sha256(weights).hexdigest(), told]), flush=True)


if __name__ == "__main__":
    main()
