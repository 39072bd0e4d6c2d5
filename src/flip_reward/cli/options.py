"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.judges.pairwise import Tournament

_MODEL, _PROMPT, _JUDGE, _SAMPLING, _RUN = "Model", "Inference", "Judges", "Sampling", "Run"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="JSONL (.gz, .zst), CSV or Parquet files, '-' for standard input, hub data sets (owner/name:split).",
        show_default=False,
    ),
]

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="The inferring model: 'embedded' (the default without a server), PATH.gguf, hf://owner/repo/file.gguf, "
        "transformers:NAME for one that transformers runs, or the name a server knows it by.",
        rich_help_panel=_MODEL,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="An OpenAI-compatible server, such as http://localhost:8000/v1. OPENAI_BASE_URL is honoured.",
        rich_help_panel=_MODEL,
    ),
]
ApiKeyEnv = Annotated[
    str, typer.Option(help="The environment variable that holds the API key.", rich_help_panel=_MODEL)
]
Concurrency = Annotated[
    int,
    typer.Option(min=1, help="The most requests in flight; adapts downwards to the server.", rich_help_panel=_MODEL),
]
TimeoutSeconds = Annotated[
    float, typer.Option(min=0.1, help="How long one request may take.", rich_help_panel=_MODEL)
]
ExtraBody = Annotated[
    str | None,
    typer.Option(help="JSON object merged into every request body.", metavar="JSON", rich_help_panel=_MODEL),
]
NoThinking = Annotated[
    bool,
    typer.Option(
        "--no-thinking", help="Switch thinking off through the server's chat template.", rich_help_panel=_MODEL
    ),
]
CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache",
        help="The response cache, or 'off'. By default in the user's cache folder.",
        metavar="PATH|off",
        rich_help_panel=_MODEL,
    ),
]
Slots = Annotated[
    int | None,
    typer.Option(min=1, help="Embedded model: requests answered at once.", rich_help_panel=_MODEL),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Embedded model: threads.", rich_help_panel=_MODEL)]
ContextTokens = Annotated[
    int | None,
    typer.Option(min=64, help="A model in this process: context of one request, in tokens.", rich_help_panel=_MODEL),
]

Dtype = Annotated[
    str,
    typer.Option(
        help="transformers: auto, float32, bfloat16 or float16; auto takes what the processor is fast at.",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="transformers: cpu, cuda:1, ...; a GPU where there is one.", rich_help_panel=_MODEL)
]
BatchTokens = Annotated[
    int | None,
    typer.Option(min=1, help="transformers: the most tokens computed at once.", rich_help_panel=_MODEL),
]

TemplateName = Annotated[
    str | None,
    typer.Option(
        "--template",
        "-t",
        help="The prompt: reasoned, direct, contextual, compact, ...; by default what suits the target.",
        rich_help_panel=_PROMPT,
    ),
]
TemplateDir = Annotated[
    Path | None,
    typer.Option(
        help="A folder with templates of your own, such as FLIP_SYSTEM.prompt and FLIP_USER.prompt.",
        rich_help_panel=_PROMPT,
    ),
]
TargetOption = Annotated[
    Target, typer.Option(help="What is inferred: last-user, system or conversation.", rich_help_panel=_PROMPT)
]
SimilarityName = Annotated[
    str,
    typer.Option(
        "--similarity",
        help="How instructions are compared: f1, rouge-l, chrf, bleu or embedding.",
        rich_help_panel=_PROMPT,
    ),
]
NormalizerName = Annotated[
    str, typer.Option("--normalizer", help="What a token is: english or multilingual.", rich_help_panel=_PROMPT)
]
EmbeddingModel = Annotated[
    str | None,
    typer.Option(help="For --similarity embedding: a model2vec model or folder.", rich_help_panel=_PROMPT),
]
ReplyPolicyOption = Annotated[
    ReplyPolicy,
    typer.Option(
        "--reply-policy",
        help="A reply without a verdict: 'strict' leaves it unscored, 'raw_text' scores it whole, as the paper's "
        "code does.",
        rich_help_panel=_PROMPT,
    ),
]
SamplesOption = Annotated[
    int,
    typer.Option(
        "--samples",
        min=1,
        help="flip: infer so many instructions from each response, at a temperature above 0.",
        rich_help_panel=_PROMPT,
    ),
]
AggregationOption = Annotated[
    Aggregation,
    typer.Option("--aggregation", help="flip: how several samples become one reward.", rich_help_panel=_PROMPT),
]
LikelihoodValueOption = Annotated[
    LikelihoodValue,
    typer.Option(
        "--likelihood-value",
        help="backward-likelihood: the sum of the log-probabilities, their mean for each token, or how much the "
        "response adds to the sum (pmi).",
        rich_help_panel=_PROMPT,
    ),
]
Structured = Annotated[
    bool,
    typer.Option("--structured", help="Constrain replies to the JSON schema.", rich_help_panel=_PROMPT),
]

RewardName = Annotated[
    str,
    typer.Option(
        "--reward",
        help="'flip'; 'backward-likelihood', how likely the instruction is after the response; or a judge: "
        "'pointwise' rates each response from 1 to 10, 'pairwise' compares two at a time, 'listwise' chooses the "
        "best of all.",
    ),
]
OrdersOption = Annotated[
    int,
    typer.Option("--orders", min=1, help="listwise: show the responses in so many orders.", rich_help_panel=_JUDGE),
]
OneOrder = Annotated[
    bool,
    typer.Option(
        "--one-order", help="pairwise: show each pair once, in a drawn order, not in both.", rich_help_panel=_JUDGE
    ),
]
TournamentOption = Annotated[
    Tournament,
    typer.Option("--tournament", help="pairwise: which of more than two responses meet.", rich_help_panel=_JUDGE),
]

Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.", rich_help_panel=_SAMPLING)]
MaxTokens = Annotated[int, typer.Option(min=1, help="The most tokens of a reply.", rich_help_panel=_SAMPLING)]
TopP = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Nucleus sampling.", rich_help_panel=_SAMPLING)]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, help="Makes sampling repeatable.", rich_help_panel=_SAMPLING)
]

RunFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--run-folder",
        "-r",
        help="Where the run is kept and resumed from. By default below runs/, named after the input and the options.",
        rich_help_panel=_RUN,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Also write the records in input order: .jsonl, .jsonl.gz or .parquet.",
        rich_help_panel=_RUN,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Your names for our columns: instruction=question,response=answer.",
        metavar="OURS=YOURS,...",
        rich_help_panel=_RUN,
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many rows.", rich_help_panel=_RUN)]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first row that cannot be read.", rich_help_panel=_RUN)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the first prompts and call nothing.", rich_help_panel=_RUN)
]
PricePrompt = Annotated[
    float | None, typer.Option(min=0, help="Price of a million prompt tokens.", rich_help_panel=_RUN)
]
PriceCompletion = Annotated[
    float | None, typer.Option(min=0, help="Price of a million completion tokens.", rich_help_panel=_RUN)
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the summary as JSON and nothing else.", rich_help_panel=_RUN)
]
ShowTable = Annotated[
    bool | None,
    typer.Option(
        "--table/--no-table",
        help="Show the records as a table. By default when there are at most 50.",
        rich_help_panel=_RUN,
    ),
]
