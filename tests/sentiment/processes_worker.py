"""What test_processes starts with torchrun: the same training in two processes and, afterwards, in each alone.

usage: processes_worker.py FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from fused_lstm.sentiment.checkpoints import Checkpoints
from fused_lstm.sentiment.language_model import LanguageModel, LanguageModelConfig
from fused_lstm.sentiment.loop import Loop
from fused_lstm.sentiment.model import ModelConfig, SentimentClassifier
from fused_lstm.sentiment.predictor import number_examples
from fused_lstm.sentiment.pretraining import pretrain
from fused_lstm.sentiment.streams import Texts
from fused_lstm.sentiment.tokens import Vocabulary, tokenize
from fused_lstm.sentiment.train_settings import ClassifierTraining, TrainSettings
from fused_lstm.sentiment.training import fit
from sentiment.conftest import easy_examples

CLASSES = ("bad", "good")
NO_DROPOUT = dict.fromkeys(("dropout", "input_dropout", "layer_dropout", "word_dropout"), 0.0)
EXAMPLES = easy_examples(200)
VOCABULARY = Vocabulary.build((tokenize(e.text) for e in EXAMPLES), min_count=2)
# 161 is 10 batches of 16 and one text, for which the second process has nothing to do.
PARTS = [number_examples(part, VOCABULARY, CLASSES, 20) for part in (EXAMPLES[:161], EXAMPLES[161:])]
TEXTS = [Texts(list(VOCABULARY.encode_texts(e.text for e in part))) for part in (EXAMPLES[:161], EXAMPLES[161:])]


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


Outcome = tuple[torch.Tensor, list[float], int | None]  # weights, losses, the step it went on from


def classifier(folder: Path | None, unfreeze: bool = True, **rates: float) -> Outcome:
    config = ModelConfig(len(VOCABULARY), 2, embedding=6, hidden=5, layers=2, bidirectional=False, **rates)
    model = SentimentClassifier(config)
    settings = ClassifierTraining(
        epochs=4, batch_size=16, unfreeze=unfreeze, averaging="ema", patience=9, adversarial=1.0
    )
    checkpoints = None if folder is None else Checkpoints(folder, {}, steps=3)
    result = fit(model, *PARTS, CLASSES, settings, checkpoints=checkpoints)
    losses = [m.train_loss for m in result.history] + [m.dev_loss for m in result.history]
    return flat(model), losses, result.resumed_at


def language_model(folder: Path | None, **rates: float) -> Outcome:
    config = LanguageModelConfig(len(VOCABULARY), embedding=6, hidden=7, layers=2, ar=0.0, tar=0.0)
    model = LanguageModel(replace(config, **rates))
    checkpoints = None if folder is None else Checkpoints(folder, {}, steps=3)
    result = pretrain(model, *TEXTS, TrainSettings(epochs=2, batch_size=6), 12, checkpoints=checkpoints)
    losses = [m.train_loss for m in result.history] + [m.dev_loss for m in result.history]
    return flat(model), losses, result.resumed_at


LM_NO_DROPOUT = dict.fromkeys(
    ("embedding_dropout", "input_dropout", "layer_dropout", "weight_dropout", "output_dropout"), 0.0
)


def resumed(train, folder: Path, limit: int) -> bool:
    """Whether a run cut short at step ``limit`` goes on from there and ends with the bits of one that was not."""
    whole, step, left = train(folder / "whole")[0], Loop._train_on, iter(range(limit))

    def dying(self, work):
        if next(left, None) is None:
            raise SystemExit
        return step(self, work)

    Loop._train_on = dying
    try:
        train(folder / "cut")
    except SystemExit:
        pass
    finally:
        Loop._train_on = step
    torch.distributed.barrier()
    weights, _, step = train(folder / "cut")
    return torch.equal(weights, whole) and step is not None and limit - 3 <= step <= limit


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    several = [classifier(None, unfreeze=False, **NO_DROPOUT), language_model(None, **LM_NO_DROPOUT)]
    told = {"processes": torch.distributed.get_world_size(), "backend": torch.distributed.get_backend()}
    told["classifier resumed"] = resumed(classifier, folder / "classifier", 17)
    told["language model resumed"] = resumed(language_model, folder / "lm", 11)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    rank = os.environ["RANK"]
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    from accelerate.state import PartialState

    PartialState._reset_state()
    alone = [classifier(None, unfreeze=False, **NO_DROPOUT), language_model(None, **LM_NO_DROPOUT)]
    told["weights"] = [(a[0] - b[0]).abs().max().item() for a, b in zip(several, alone)]
    told["losses"] = [max(abs(x - y) for x, y in zip(a[1], b[1])) for a, b in zip(several, alone)]
    (folder / f"{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
