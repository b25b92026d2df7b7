"""Byte-pair vocabulary of the embedded model: learnt here from the captions, read by open_clip's tokenizer.

File format (open_clip's): gzip of a header line, then one merge per line, two symbols with a space between. Every byte
is a symbol of its own, so any text can be tokenised. Algorithm: Sennrich, Haddow and Birch 2016, "Neural Machine
Translation of Rare Words with Subword Units".
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from open_clip.tokenizer import bytes_to_unicode

# Words as open_clip's tokenizer cuts them: letters together, digits one by one, other signs together.
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\w\s]|_)+")
_HEADER = "#version: wardround 1"


def learn_merges(lines: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Learn up to ``count`` merges, most frequent pair first; ties go to the pair that sorts first."""
    table = bytes_to_unicode()
    words: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        for word in _WORD.findall(line.lower()):
            symbols = [table[byte] for byte in word.encode("utf-8")]
            words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols_, times in words.items():
            for pair in pairwise(symbols_):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({_join(symbols_, best): times for symbols_, times in words.items()})
    return merges


def _join(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    index = 0
    while index < len(symbols):
        if symbols[index : index + 2] == pair:
            out.append(pair[0] + pair[1])
            index += 2
        else:
            out.append(symbols[index])
            index += 1
    return tuple(out)


def vocabulary_bytes(merges: list[tuple[str, str]]) -> bytes:
    """The vocabulary file; the same merges always give the same bytes."""
    text = "\n".join([_HEADER, *(f"{first} {second}" for first, second in merges)])
    return gzip.compress(text.encode("utf-8"), mtime=0)


def vocabulary_size(merges: list[tuple[str, str]]) -> int:
    """Tokens: 256 bytes, 256 word-final bytes, the merges, and the marks of start and end."""
    return 512 + len(merges) + 2
