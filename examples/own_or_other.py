"""Make a benchmark of pairs: can an inferrer tell a prompt's own response from one to another prompt?

The other response is of the same kind (as long, code, or in another language), so the accuracy on each kind says
of which responses an inferrer can know little. Run

    python examples/own_or_other.py PAIRS.jsonl... > benchmark.jsonl
    flip-reward evaluate -b benchmark.jsonl -r backward-likelihood

With --alike the other response is the one of its kind that shares most words with its own: harder to tell apart.
The rows of the files, which may be gzipped, have a `prompt` and a `response`, or responses that were `chosen`.
"""

import gzip
import json
import random
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from flip_reward.core.cautions import share_of_code, share_of_english
from flip_reward.core.similarity import TokenF1
from flip_reward.core.tokens import load_normalizer

MOST_OF_A_KIND = 150
SAME_PROMPT = 0.8
LENGTHS = (1, 2, 3, 4, 6, 8, 16, 32)


def name_kind(response: str) -> str | None:
    """Name what kind of response it is."""
    words = len(load_normalizer("multilingual").tokenize(response))
    code = share_of_code(response)
    if words == 0 or 0.2 < code <= 0.8:
        return None
    if code > 0.8:
        return "code"
    if words >= LENGTHS[-1]:
        return "long" if share_of_english(response) >= 0.1 else "other language"
    least = max(length for length in LENGTHS if length <= words)
    return f"words from {least:02}"


def find_other(prompt: str, own: str, others: Mapping[str, str], *, alike: bool) -> str | None:
    """Return a response to another prompt: the next one, or the one that is most like its own."""
    similarity = TokenF1("multilingual")
    wording, answer = similarity.prepare(prompt), similarity.prepare(own)
    found: list[tuple[float, str]] = []
    for other_prompt, other in others.items():
        if other == own or wording.compare(other_prompt).value > SAME_PROMPT:
            continue
        if not alike:
            return other
        found.append((answer.compare(other).value, other))
    return max(found, default=(0.0, None))[1]


def main(arguments: list[str]) -> None:
    """Print a row for each pair that is drawn."""
    alike = "--alike" in arguments
    pairs: defaultdict[str | None, dict[str, str]] = defaultdict(dict)
    for path in (Path(name) for name in arguments if name != "--alike"):
        content = path.read_bytes()
        for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines():
            row = json.loads(line)
            response = row["response"] if "response" in row else row["chosen"][0]
            pairs[name_kind(response)].setdefault(row["prompt"], response)
    chance = random.Random(0)  # noqa: S311 - not for secrets
    for kind in sorted(filter(None, pairs)):
        drawn = chance.sample(sorted(pairs[kind].items()), min(MOST_OF_A_KIND, len(pairs[kind])))
        for number, (prompt, own) in enumerate(drawn):
            others = pairs[kind] if alike else dict(drawn[number + 1 :] + drawn[:number])
            other = find_other(prompt, own, others, alike=alike)
            if other is not None:
                print(json.dumps({"subset": kind, "prompt": prompt, "chosen": [own], "rejected": [other]}))


if __name__ == "__main__":
    main(sys.argv[1:])
