"""Tables for the digits example: captions for both data sets, hub sentences, true pairs.

    python examples/digits/make_tables.py DATA OUT

DATA holds `images.csv` (path, digit, split) and `audio.csv` (path, digit, speaker, split).
Captions make an image-text and an audio-text data set of what is given; nothing pairs a
sound with a picture but the two `pairs-*.csv`, which only the upper bound may see.
"""

from __future__ import annotations

import csv
import os
import random
import sys
from pathlib import Path

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("{}", "the digit {}", "this is {}", "the number {}", "it says {}", "an example of {}")


def sentences(digit: int) -> list[str]:
    """Everything the captions may say of a digit."""
    return [template.format(form) for form in (str(digit), WORDS[digit]) for template in TEMPLATES]


def main() -> None:
    """Write images.csv, sounds.csv, texts.txt, pairs-images.csv and pairs-sounds.csv."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    tables = {}
    for name, source in (("images", "images.csv"), ("sounds", "audio.csv")):
        with (data / source).open(newline="") as file:
            rows = list(csv.DictReader(file))
        tables[name] = [
            {
                "path": os.path.relpath(data / row["path"], out),
                "key": row["path"],
                "digit": row["digit"],
                "split": row["split"],
                "caption": rng.choice(sentences(int(row["digit"]))),
            }
            for row in rows
        ]
        write(out / f"{name}.csv", tables[name])
    lines = [sentence for digit in range(10) for sentence in sentences(digit)]
    (out / "texts.txt").write_text("\n".join(lines) + "\n")
    write_pairs(tables["images"], tables["sounds"], out, rng)


def write_pairs(images: list[dict], sounds: list[dict], out: Path, rng: random.Random) -> None:
    """Pair every training sound with a random training picture of the same digit."""
    by_digit: dict[str, list[dict]] = {}
    for image in images:
        if image["split"] == "train":
            by_digit.setdefault(image["digit"], []).append(image)
    train = [sound for sound in sounds if sound["split"] == "train"]
    chosen = [rng.choice(by_digit[sound["digit"]]) for sound in train]
    for name, rows in (("images", chosen), ("sounds", train)):
        write(out / f"pairs-{name}.csv", [{**row, "key": i} for i, row in enumerate(rows)])


def write(path: Path, rows: list[dict]) -> None:
    """Write a table with the columns of its first row."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
