"""Explained predictions as a page."""

from __future__ import annotations

from collections.abc import Sequence

from ..predictor import Explanation, Prediction
from . import page

# A page is for reading; jsonl holds any number.
PAGE_TEXTS = 200


def explanation_page(told: Sequence[tuple[Prediction, Explanation]], count: int, model: str) -> str:
    """``told`` are the first of ``count`` texts that ``model`` has answered."""
    rest = f" The first {len(told)} of {count:,} texts are shown." if count > len(told) else ""
    rated = any(prediction.rating is not None for prediction, _ in told)
    if rated:
        score, sides = "the predicted number", "blue raises it, orange underlined lowers it"
    else:
        score, sides = "the log-odds of the answer", "blue speaks for the answer, orange underlined against it"
    body = [
        page.heading(f"What {model} reads in {len(told)} text(s)", 1),
        page.paragraph(
            f"Shades: what each token adds to {score}, relative to the strongest token of its text; {sides}.{rest}",
            "lead",
        ),
    ]
    for prediction, explanation in told:
        title = f"{prediction.label}, probability {prediction.probability:.3f}"
        if prediction.rating is not None:
            title = f"{prediction.rating:.3f}, nearest label {prediction.label}"
        body += [page.heading(title, 3), page.marked_text(explanation.pieces, f"text answered with {title}")]
        if prediction.known < 1:
            body.append(page.paragraph(f"{1 - prediction.known:.0%} of its tokens are unknown to the model.", "soft"))
    return page.page(f"What {model} reads", body)
