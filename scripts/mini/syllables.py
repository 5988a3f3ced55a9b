"""Made-up words of Arabic syllables, for sounds that no English text has: emphatics, uvulars, pharyngeals.

Nobody wrote them, so nobody owns them; and they are no words, so no task's vocabulary is among what is
trained on, other than by chance.
"""

from __future__ import annotations

import random

CONSONANTS = "بتثجحخدذرزسشصضطظعغفقكلمنهويء"
SHORT_VOWELS = "َُِ"  # fatha, damma, kasra
LONG_VOWELS = ("َا", "ُو", "ِي")
SUKUN = "ْ"


def _syllable(rng: random.Random) -> str:
    vowel = rng.choice(SHORT_VOWELS) if rng.random() < 0.6 else rng.choice(LONG_VOWELS)
    closed = rng.choice(CONSONANTS) + SUKUN if rng.random() < 0.35 else ""
    return rng.choice(CONSONANTS) + vowel + closed


def made_up_lines(n_lines: int, seed: int) -> list[tuple[str, str]]:
    """``n_lines`` lines of 2 to 8 words of 1 to 4 syllables, as (id, text)."""
    rng = random.Random(seed)
    lines = []
    for number in range(n_lines):
        words = ["".join(_syllable(rng) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(2, 8))]
        lines.append((f"syllables_{number:05d}", " ".join(words)))
    return lines
