"""Constructions of the embedded corpus: each draws one sentence, or a twin pair, from a lexicon.

Twins hold the same tokens the same number of times and carry opposite labels, so whatever only counts words is right
on exactly one of the two. An easy sentence has no operator and no twin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .lexicon import Lexicon
from .splitmix import SplitMix64

Opinion = tuple[str, str]  # modifier in front (may be empty), opinion word


class Sentence(NamedTuple):
    """A text and whether it is positive under the rules of the grammar."""

    text: str
    positive: bool


Construction = Callable[[SplitMix64, Lexicon], list[Sentence]]


class Scene:
    """What twins share: aspects, asides, opening and closing. ``render`` fills a frame with opinions."""

    def __init__(self, stream: SplitMix64, lexicon: Lexicon, clauses: int = 2) -> None:
        self._lexicon = lexicon
        self._aspects = stream.sample(lexicon.aspects, clauses)
        self._asides = stream.sample(lexicon.asides, 2 * clauses)
        self._opening = stream.choice(lexicon.openings)
        self._closing = stream.choice(lexicon.closings)

    def render(self, frame: str, *opinions: Opinion) -> str:
        """The whole text, with one opinion per clause of the frame."""
        clauses = [
            self._lexicon.clause.format(
                aspect=self._aspects[i],
                before=self._asides[2 * i],
                modifier=modifier,
                opinion=word,
                after=self._asides[2 * i + 1],
            )
            for i, (modifier, word) in enumerate(opinions)
        ]
        parts = (self._opening, self._lexicon.frames[frame].format(*clauses), self._closing)
        return self._lexicon.word_gap.join(part for part in parts if part)


def plain(stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """Easy: two clauses that agree, no operator."""
    scene, positive = Scene(stream, lexicon), stream.chance(0.5)
    first, second = stream.sample(lexicon.opinions(positive), 2)
    return [Sentence(scene.render("and", ("", first), ("", second)), positive)]


def deciding(frame: str, clauses: int, decisive: int, stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """One clause decides. The twin exchanges its opinion with an opposite one in another clause."""
    scene = Scene(stream, lexicon, clauses)
    other = stream.choice([i for i in range(clauses) if i != decisive])
    words = [("", stream.choice(lexicon.opinions(stream.chance(0.5)))) for _ in range(clauses)]
    words[decisive], words[other] = ("", stream.choice(lexicon.praise)), ("", stream.choice(lexicon.blame))
    positive = Sentence(scene.render(frame, *words), True)
    words[decisive], words[other] = words[other], words[decisive]
    return [positive, Sentence(scene.render(frame, *words), False)]


def negation(stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """Opposite opinions, one of them negated, so that both clauses agree. The twin moves the "not"."""
    scene, positive = Scene(stream, lexicon), stream.chance(0.5)
    first, second = stream.choice(lexicon.opinions(positive)), stream.choice(lexicon.opinions(not positive))
    no, yes = lexicon.negated, lexicon.affirmed
    return [
        Sentence(scene.render("and", (no, first), (yes, second)), not positive),
        Sentence(scene.render("and", (yes, first), (no, second)), positive),
    ]


def denial(stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """Deny one opinion, claim its opposite. The twin exchanges the two verbs."""
    scene, positive = Scene(stream, lexicon), stream.chance(0.5)
    first, second = stream.choice(lexicon.opinions(positive)), stream.choice(lexicon.opinions(not positive))
    return [
        Sentence(scene.render("deny claim", ("", first), ("", second)), not positive),
        Sentence(scene.render("claim deny", ("", first), ("", second)), positive),
    ]


def parity(stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """Denial and negation together, opinions of one polarity: two operators cancel or one remains."""
    scene, positive = Scene(stream, lexicon), stream.chance(0.5)
    first, second = stream.sample(lexicon.opinions(positive), 2)
    opinions = (lexicon.negated, first), (lexicon.affirmed, second)
    return [
        Sentence(scene.render("deny claim", *opinions), positive),
        Sentence(scene.render("claim deny", *opinions), not positive),
    ]


def degree(stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """Opposite opinions, one weak and one strong: the strong one decides. The twin exchanges the degrees."""
    scene, positive = Scene(stream, lexicon), stream.chance(0.5)
    first, second = stream.choice(lexicon.opinions(positive)), stream.choice(lexicon.opinions(not positive))
    weak, strong = stream.choice(lexicon.weak), stream.choice(lexicon.strong)
    return [
        Sentence(scene.render("and", (weak, first), (strong, second)), not positive),
        Sentence(scene.render("and", (strong, first), (weak, second)), positive),
    ]


def nested_denial(stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """Denial of a contrast, claim of the opposite of its second clause. The twin exchanges the verbs."""
    scene, positive = Scene(stream, lexicon, 3), stream.chance(0.5)
    inner, outer = lexicon.opinions(positive), lexicon.opinions(not positive)
    opinions = ("", stream.choice(outer)), ("", stream.choice(inner)), ("", stream.choice(outer))
    return [
        Sentence(scene.render("deny but claim", *opinions), not positive),
        Sentence(scene.render("claim but deny", *opinions), positive),
    ]


def nested_negation(frame: str, decisive: int, stream: SplitMix64, lexicon: Lexicon) -> list[Sentence]:
    """One clause decides and one is negated. The twin moves the "not" into or out of the deciding clause."""
    scene, positive = Scene(stream, lexicon), stream.chance(0.5)
    words = [stream.choice(lexicon.opinions(stream.chance(0.5))) for _ in range(2)]
    words[decisive] = stream.choice(lexicon.opinions(positive))
    no, yes = lexicon.negated, lexicon.affirmed
    sentences = []
    for first, second in ((no, yes), (yes, no)):
        decided = positive != ((first, second)[decisive] == no)
        sentences.append(Sentence(scene.render(frame, (first, words[0]), (second, words[1])), decided))
    return sentences


TWINS: dict[str, Construction] = {
    "contrast": partial(deciding, "but", 2, 1),
    "although first": partial(deciding, "although first", 2, 1),
    "although last": partial(deciding, "although last", 2, 0),
    "last year, this year": partial(deciding, "then now", 2, 1),
    "this year, last year": partial(deciding, "now then", 2, 0),
    "negation": negation,
    "denial": denial,
    "parity": parity,
    "degree": degree,
}

COMPOSED: dict[str, Construction] = {
    "although, but": partial(deciding, "although but", 3, 2),
    "but, but": partial(deciding, "but but", 3, 2),
    "last year but, this year": partial(deciding, "then but now", 3, 2),
    "this year but, last year": partial(deciding, "now but then", 3, 1),
    "this year although, last year": partial(deciding, "now although then", 3, 1),
    "last year, this year although": partial(deciding, "then now although", 3, 1),
    "denial of a contrast": nested_denial,
    "contrast of negations": partial(nested_negation, "but", 1),
    "negations in time": partial(nested_negation, "now then", 0),
}
