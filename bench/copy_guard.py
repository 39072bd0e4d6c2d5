"""What the copy guard stops, and what it costs honest responses, with the embedded model.

Texts are scored by the guard itself, which keeps both readings of those that copy anything; so one run tells what it
does at each share from which it may act.

- Echoes: the audit's copies of the instruction around a response to another prompt, against the better of two genuine
  responses. An echo wins a group where its reward is higher; ties count half.
- Pairs: how often the chosen response has the higher reward; and what the guard takes from the mean reward of a
  response, of all and of those whose instruction's own words are copied.
- Quotes: right answers to instructions that want something quoted (tests/quoting_instructions.jsonl).

Run `python bench/copy_guard.py FOLDER -r backward-likelihood -o likelihood.json` with a folder of pandalm.jsonl,
llmbar.jsonl and prompts_self_instruct_user.jsonl: rows of prompt, chosen and rejected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from operator import sub
from pathlib import Path
from statistics import fmean

from flip_reward import Group, RewardConfig, RewardModel
from flip_reward.audit.attacks.catalogue import ATTACKS

QUOTES = Path(__file__).parents[1] / "tests/quoting_instructions.jsonl"
SHARES = (0.01, 0.25, 0.4, 0.5, 0.6, 0.7, 0.9)
DRAWS = 2000


ECHOES = {name: attack.function for name, attack in ATTACKS.items() if attack.family == "copy"}


@dataclass(slots=True)
class Text:
    """A response, its reward as it is, and its reward without what it copies."""

    part: str
    prompt: str
    name: str
    instruction: str
    response: str
    share: float = 0.0
    value: float | None = None
    masked_value: float | None = None

    def is_touched(self, least_share: float) -> bool:
        return self.masked_value is not None and self.share >= least_share

    def guarded(self, least_share: float) -> float | None:
        if self.masked_value is None or not self.is_touched(least_share):
            return self.value
        return None if self.value is None else min(self.value, self.masked_value)


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_pairs(folder: Path, name: str) -> list[Text]:
    texts = []
    for number, row in enumerate(read(folder / f"{name}.jsonl")):
        for label in ("chosen", "rejected"):
            texts += [Text(name, f"{number}", label, row["prompt"], text) for text in row[label][:1]]
    return texts


def make_echoes(pairs: Sequence[Text], known: Iterable[str], most: int) -> list[Text]:
    """Make the texts of groups: two genuine responses, and what copies the instruction around another one's."""
    genuine: dict[str, list[str]] = {}
    for text in pairs:
        responses = genuine.setdefault(text.instruction, [])
        if text.response.strip() and text.response not in responses:
            responses.append(text.response)
    prompts = [prompt for prompt in known if len(genuine.get(prompt, ())) > 1]
    prompts = random.Random(1).sample(prompts, min(most, len(prompts)))
    texts = []
    for prompt, other in zip(prompts, [*prompts[7:], *prompts[:7]], strict=True):
        texts += [Text("echoes", prompt, "genuine", prompt, response) for response in genuine[prompt][:2]]
        own = genuine[other][0]
        texts += [Text("echoes", prompt, name, prompt, make(prompt, own, 0)) for name, make in ECHOES.items()]
    return texts


async def score(reward: RewardModel, texts: Sequence[Text]) -> None:
    """Score every text, with what it copies and without."""
    found = await reward.score([Group.of(text.instruction, text.response) for text in texts])
    for text, [one] in zip(texts, found, strict=True):
        text.value, text.share, other = one.value, one.copied_share or 0.0, one.other_reading
        if other is not None:
            text.value, text.masked_value = (one.value, other.value) if other.masked else (other.value, one.value)


def interval(values: Sequence[Sequence[float]]) -> str:
    """Return the mean over prompts of means, in percent, with a 95 % bootstrap interval over prompts."""
    sums = [(sum(one), len(one)) for one in values if one]
    if not sums:
        return "-"
    generator = random.Random(1)
    draws = []
    for _ in range(DRAWS):
        drawn = generator.choices(sums, k=len(sums))
        draws.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    draws.sort()
    mean = sum(total for total, _ in sums) / sum(count for _, count in sums)
    return f"{100 * mean:.1f} [{100 * draws[DRAWS // 40]:.1f}, {100 * draws[-DRAWS // 40]:.1f}]"


def win(value: float | None, other: float | None) -> list[float]:
    return [] if value is None or other is None else [(value > other) + (value == other) / 2]


def group_by(texts: Iterable[Text], key: Callable[[Text], str]) -> dict[str, list[Text]]:
    groups: dict[str, list[Text]] = {}
    for text in texts:
        groups.setdefault(key(text), []).append(text)
    return groups


def report_echoes(texts: Sequence[Text], shares: Sequence[float]) -> None:
    groups = group_by(texts, lambda text: text.prompt)
    print(f"\nEchoes that win, % of {len(groups)} groups: without the guard, and with it from a share of")
    print("| echo |", " | ".join(f"{share:g}" if share <= 1 else "off" for share in shares), "|")
    for name in ECHOES:
        cells = []
        for share in shares:
            wins = []
            for group in groups.values():
                own = [one.guarded(share) for one in group if one.name == "genuine"]
                best = max((value for value in own if value is not None), default=None)
                wins.append([w for one in group if one.name == name for w in win(one.guarded(share), best)])
            cells.append(interval(wins))
        print(f"| {name} |", " | ".join(cells), "|")


def report_pairs(texts: Sequence[Text], shares: Sequence[float]) -> None:
    pairs = [pair for pair in group_by(texts, lambda text: text.prompt).values() if len(pair) == 2]
    prompts = group_by([pair[0] for pair in pairs], lambda text: text.instruction)
    scale = [text.value for text in texts if text.value is not None]
    print(f"\n{texts[0].part}: {len(pairs)} pairs of {len(prompts)} prompts, mean reward {fmean(scale):.4f}")
    print("| from | touched, % of responses | accuracy, % | change, points | reward lost, % of the mean |")
    by_prompt = group_by(texts, lambda text: text.instruction)
    for share in shares:
        touched = [[float(one.is_touched(share)) for one in group] for group in by_prompt.values()]
        right: dict[str, list[float]] = {}
        change: dict[str, list[float]] = {}
        for chosen, rejected in pairs:
            now, before = win(chosen.guarded(share), rejected.guarded(share)), win(chosen.value, rejected.value)
            right.setdefault(chosen.instruction, []).extend(now)
            change.setdefault(chosen.instruction, []).extend(map(sub, now, before))
        lost = [
            [
                (one.value - guarded) / abs(fmean(scale))
                for one in group
                if one.value is not None and (guarded := one.guarded(share)) is not None
            ]
            for group in by_prompt.values()
        ]
        cells = [interval(touched), interval(list(right.values())), interval(list(change.values()))]
        print(f"| {share:g} |", " | ".join([*cells, interval(lost)]), "|")


def report_quotes(texts: Sequence[Text], shares: Sequence[float]) -> None:
    scale = abs(fmean(text.value for text in texts if text.value is not None))
    for share in shares:
        touched = [text for text in texts if text.is_touched(share)]
        lost = [text.value - (text.guarded(share) or 0) for text in texts if text.value is not None]
        kinds = ", ".join(sorted({text.name for text in touched}))
        print(f"quotes, from {share:g}: {len(touched)} of {len(texts)} touched ({kinds}), "
              f"{100 * fmean(lost) / scale:.2f} % of the mean reward lost")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-r", "--reward", default="backward-likelihood")
    parser.add_argument("-m", "--model", default="llama.cpp:embedded")
    parser.add_argument("--prompts", type=int, default=200, help="of echoes, at most")
    parser.add_argument("--pairs", type=int, default=10_000, help="of each benchmark, at most")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=Path("copy_guard.json"))
    options = parser.parse_args()
    sets = {name: read_pairs(options.folder, name) for name in ("pandalm", "llmbar")}
    known = dict.fromkeys(str(row["prompt"]) for row in read(options.folder / "prompts_self_instruct_user.jsonl"))
    echoes = make_echoes([*sets["pandalm"], *sets["llmbar"]], known, options.prompts)
    quotes = [Text("quotes", row["prompt"], row["kind"], row["prompt"], row["response"]) for row in read(QUOTES)]
    parts = {name: texts[: 2 * options.pairs] for name, texts in sets.items()}
    parts |= {"quotes": quotes, "echoes": echoes}
    config = RewardConfig(
        reward=options.reward,
        model=options.model,
        concurrency=options.concurrency,
        copy_guard=True,
        copy_guard_share=SHARES[0],
    )
    with config.load() as reward:
        for texts in parts.values():
            asyncio.run(score(reward, texts))
            options.output.write_text(json.dumps([asdict(text) for part in parts.values() for text in part]))
    report_echoes(echoes, (2.0, *SHARES))
    for name in sets:
        report_pairs(parts[name], (2.0, *SHARES))
    report_quotes(quotes, SHARES)


if __name__ == "__main__":
    main()
