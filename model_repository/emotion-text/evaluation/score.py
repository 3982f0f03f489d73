"""Score the rule on sentences.json: 60 sentences in everyday words, written before the first run. The lexicon
is not tuned on them.

    python score.py
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "1"))

from lexicon import LABELS, load, logits  # noqa: E402


def main() -> None:
    lexicon = load(HERE.parent / "1" / "lexicon.json")
    right = dict.fromkeys(LABELS, 0)
    sentences = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
    for expected, text in sentences:
        label = LABELS[int(logits(text, lexicon).argmax())]
        right[expected] += label == expected
        if label != expected:
            print(f"{expected:9} heard as {label:9} {text}")
    print({**right, "accuracy": round(sum(right.values()) / len(sentences), 3)})


if __name__ == "__main__":
    main()
