"""A data source of one's own: sums, as sentences.

    data: {name: "my_data:sums", number: 200, largest: 9}

The function returns the real and the held-out texts; nothing else is trained on or measured. `kr_test`, `downstream`
and `calibration` stand beside the options, as for any text.
"""

import random


def sums(number: int, largest: int = 9) -> dict[str, list[str]]:
    draw = random.Random(0)  # noqa: S311
    pairs = [(draw.randint(0, largest), draw.randint(0, largest)) for _ in range(number)]
    texts = [f"{a} and {b} make {a + b}." for a, b in pairs]
    return {"real": texts[number // 5 :], "held_out": texts[: number // 5]}
