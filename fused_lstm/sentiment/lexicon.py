"""The words and sentence frames of the embedded corpus, English and Chinese.

A clause names an aspect and an opinion with an aside on either side of the opinion. The asides keep an operator ("but",
"deny") at least four tokens away from any opinion, on both sides alike, so no 4-gram contains both.

A frame is a whole sentence with one slot per clause, {0}, {1}, {2}. The first group is used for training, dev and test;
the nested frames appear in the ``compose`` split alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Lexicon:
    """Everything the grammar needs to speak one language.

    ``clause`` has the slots aspect, before, modifier, opinion, after. ``negated``/``affirmed`` and ``weak``/``strong``
    are modifiers put in front of an opinion; the members of such a pair are equally long.
    """

    name: str
    word_gap: str
    aspects: tuple[str, ...]
    praise: tuple[str, ...]
    blame: tuple[str, ...]
    asides: tuple[str, ...]
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    clause: str
    negated: str
    affirmed: str
    weak: tuple[str, ...]
    strong: tuple[str, ...]
    frames: Mapping[str, str]

    def opinions(self, positive: bool) -> tuple[str, ...]:
        """The opinion words of one polarity."""
        return self.praise if positive else self.blame


ENGLISH = Lexicon(
    name="en",
    word_gap=" ",
    aspects=tuple("plot acting music pacing dialogue ending camera cast story editing humour opening".split()),
    praise=tuple(
        "wonderful moving clever charming gripping warm witty superb "
        "elegant lively honest fresh rich funny tender bright".split()
    ),
    blame=tuple(
        "dull clumsy tedious shallow lazy bland noisy hollow "
        "stale awkward messy lifeless crude forced flat dreary".split()
    ),
    asides=(
        "as for me",
        "if you ask me",
        "by any measure",
        "in my view",
        "to be fair",
        "at least on paper",
        "on a second look",
        "all in all",
        "for what it is",
        "on that evening",
    ),
    openings=(
        "",
        "we saw it on friday .",
        "my sister dragged me along .",
        "it was raining .",
        "tickets were cheap .",
        "nobody warned us .",
        "three friends came too .",
    ),
    closings=("", "we took the late bus home .", "then we went for noodles .", "that is all .", "end of my notes ."),
    clause="the {aspect} is , {before} , {modifier}{opinion} {after}",
    negated="not , by the way , ",
    affirmed="quite , by the way , ",
    weak=("slightly , as they say , ", "somewhat , as they say , "),
    strong=("extremely , as they say , ", "utterly , as they say , "),
    frames={
        "and": "{0} and {1} .",
        "but": "{0} but {1} .",
        "although first": "although {0} , {1} .",
        "although last": "{0} , although {1} .",
        "then now": "last year {0} , this year {1} .",
        "now then": "this year {0} , last year {1} .",
        "deny claim": "i deny that {0} and i claim that {1} .",
        "claim deny": "i claim that {0} and i deny that {1} .",
        "although but": "although {0} , {1} but {2} .",
        "but but": "{0} but {1} but {2} .",
        "then but now": "last year {0} but {1} , this year {2} .",
        "now but then": "this year {0} but {1} , last year {2} .",
        "now although then": "this year although {0} , {1} , last year {2} .",
        "then now although": "last year {0} , this year {1} , although {2} .",
        "deny but claim": "i deny that {0} but {1} and i claim that {2} .",
        "claim but deny": "i claim that {0} but {1} and i deny that {2} .",
    },
)

CHINESE = Lexicon(
    name="zh",
    word_gap="",
    aspects=tuple("剧情 演技 配乐 节奏 台词 结局 画面 选角 故事 剪辑 笑点 开头".split()),
    praise=tuple("精彩 动人 巧妙 讨喜 紧凑 温暖 机智 出色 优雅 生动 真诚 新鲜 饱满 好笑 细腻 明快".split()),
    blame=tuple("沉闷 笨拙 冗长 肤浅 敷衍 平庸 吵闹 空洞 老套 尴尬 混乱 呆板 粗糙 做作 乏味 阴沉".split()),
    asides=tuple("在我看来 说句实话 从头到尾 平心而论 聊过之后 看了两遍 按理来说 这么些年 那天晚上".split()),
    openings=("", "周五我们去看了。", "票价不贵。", "外面正下雨。", "妹妹硬拉我去。", "朋友们也来了。"),
    closings=("", "我们坐末班车回家。", "看完去吃了碗面。", "就说这些。", "记到这里。"),
    clause="{aspect}呢，{before}，{modifier}{opinion}，{after}",
    negated="并非，怎么说呢，",
    affirmed="确实，怎么说呢，",
    weak=("有点，怎么说呢，", "稍微，怎么说呢，"),
    strong=("极其，怎么说呢，", "格外，怎么说呢，"),
    frames={
        "and": "{0}，{1}。",
        "but": "{0}，但是{1}。",
        "although first": "虽然{0}，{1}。",
        "although last": "{0}，虽然{1}。",
        "then now": "去年{0}，今年{1}。",
        "now then": "今年{0}，去年{1}。",
        "deny claim": "我否认{0}，我主张{1}。",
        "claim deny": "我主张{0}，我否认{1}。",
        "although but": "虽然{0}，{1}，但是{2}。",
        "but but": "{0}，但是{1}，但是{2}。",
        "then but now": "去年{0}，但是{1}，今年{2}。",
        "now but then": "今年{0}，但是{1}，去年{2}。",
        "now although then": "今年虽然{0}，{1}，去年{2}。",
        "then now although": "去年{0}，今年{1}，虽然{2}。",
        "deny but claim": "我否认{0}，但是{1}，我主张{2}。",
        "claim but deny": "我主张{0}，但是{1}，我否认{2}。",
    },
)

LEXICONS: dict[str, Lexicon] = {"en": ENGLISH, "zh": CHINESE}
