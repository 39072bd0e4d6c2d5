"""`flip-reward evaluate` and `flip-reward compare` as a user runs them."""

import json
import signal
import time
from pathlib import Path

from tests.e2e.command import run, start, write_rows
from tests.http.fault_server import Fault, FaultServer, from_then_on

SCRIPTED = ("--model", "scripted", "--cache", "off")


def write_pairs(path: Path, count: int = 20) -> str:
    rows = [
        {
            "id": f"i{n}",
            "subset": "short" if n % 2 else "long",
            "prompt": f"Say the word number{n} and stop.",
            "chosen": [f"word number{n}"],
            "rejected": [f"Here is a long answer about something else than {n}"],
        }
        for n in range(count)
    ]
    return write_rows(path, rows).name


def test_help(tmp_path: Path) -> None:
    assert "evaluate" in run(tmp_path, "--help").stdout
    text = run(tmp_path, "evaluate", "--help-all").stdout
    assert "Examples:" in text
    options = {word.strip(",") for word in text.split() if word.startswith("--")}
    assert options >= {
        "--benchmark", "--reward", "--model", "--runs", "--limit", "--sample-seed", "--skip-bad-rows", "--run-folder",
        "--base-url", "--json",
    }  # fmt: skip
    assert run(tmp_path, "compare", "--help").returncode == 0


def test_an_evaluation_is_shown_written_resumed_and_extended(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    arguments = ["evaluate", "-b", source, "-r", "shortest", "-r", "flip", *SCRIPTED, "--run-folder", "eval"]
    first = run(tmp_path, *arguments)
    assert first.returncode == 0, first.stderr
    assert "pairs: 20 items" in first.stdout
    assert "pairs, flip reasoned @ scripted: 20 of 20 items to score" in first.stderr
    assert "Report: eval/report.html" in first.stdout
    for name in ("evaluation.json", "results.json", "results.csv", "report.html", "items/pairs.jsonl"):
        assert (tmp_path / "eval" / name).stat().st_size
    results = json.loads((tmp_path / "eval/results.json").read_text())
    assert results["cells"][0]["overall"]["strict"]["value"] == 1
    assert results["cells"][0]["protocol_figures"] == []
    again = run(tmp_path, *arguments, "-r", "longest")
    assert again.returncode == 0
    assert "items to score" in again.stderr
    assert "flip reasoned @ scripted: 20 of" not in again.stderr, "it was scored already"
    after = json.loads((tmp_path / "eval/results.json").read_text())
    assert after["cells"][:2] == results["cells"]
    assert len(after["comparisons"]) == 3


def test_the_default_folder_is_found_again(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    for reward in ("longest", "copy"):
        assert run(tmp_path, "evaluate", "-b", source, "-r", reward).returncode == 0
    [folder] = (tmp_path / "evaluations").iterdir()
    assert len(json.loads((folder / "results.json").read_text())["cells"]) == 2


def test_json_a_protocol_by_name_and_a_sample(tmp_path: Path) -> None:
    rows = [
        {"input": f"Say {n}.", "output_1": str(n), "output_2": "No, I will not.", "label": 1, "subset": subset}
        for n, subset in enumerate(["natural", "neighbor", "gptinst", "gptout", "manual"] * 4)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    finished = run(
        tmp_path,
        "evaluate",
        "-b",
        "llmbar=rows.jsonl",
        "-r",
        "shortest",
        "--limit",
        "10",
        "--json",
        "--run-folder",
        "e",
    )
    results = json.loads(finished.stdout)
    [benchmark] = results["benchmarks"]
    assert (benchmark["name"], benchmark["protocol"], benchmark["items"]) == ("llmbar", "llmbar", 10)
    assert {subset["items"] for subset in benchmark["subsets"]} == {2}
    figures = results["cells"][0]["protocol_figures"]
    rules = ("", ", authors' rule")
    means = {name + rule for name in ("natural", "adversarial mean", "average") for rule in rules}
    assert {figure["name"] for figure in figures} == means | {"agreement between orders"}
    assert {figure["value"] for figure in figures} == {1}
    assert [figure["name"] for figure in figures if figure["headline"]] == ["average, authors' rule"]


def test_judges_over_http_with_prices(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 4)
    with FaultServer(script=lambda _request: '{"REASONING": "r", "SCORE": 7, "BETTER_RESPONSE": "A"}') as server:
        finished = run(
            tmp_path, "evaluate", "-b", source, "-r", "pointwise", "-r", "pairwise", "--base-url", server.base_url,
            "-m", server.model, "--cache", "off", "--run-folder", "e", "--price-prompt", "1", "--json",
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    pointwise, pairwise = json.loads(finished.stdout)["cells"]
    assert pointwise["overall"]["fractional"]["value"] == pairwise["overall"]["fractional"]["value"] == 0.5
    assert pairwise["order_flips"] == {"rate": 1.0, "pairs": 4}
    assert pointwise["cost"] > 0


def test_a_judge_that_never_answers_has_no_verdict_and_the_models_are_named(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 8)
    with FaultServer(script=lambda _request: "Both are fine, I think.") as server:
        arguments = ["-b", source, "-r", "pointwise", "-r", "longest", "--base-url", server.base_url]
        arguments += ["-m", server.model, "--cache", "off", "--run-folder", "e"]
        finished = run(tmp_path, "evaluate", *arguments)
        model = f"{server.model} at {server.base_url}"
    assert finished.stderr.startswith(f"pointwise @ {server.model}: model: {model}\n")
    places = [finished.stdout.index(text) for text in ("\n longest ", "0.000", "\n pointwise ", "no verdict")]
    assert places == sorted(places), "it stands last, not at chance"
    assert f"pointwise @ {server.model}: 16 unparseable_reply\n" in finished.stdout
    assert " better" not in finished.stdout
    assert "not told apart" not in finished.stdout
    run(tmp_path, "evaluate", "-b", source, "-r", "shortest", "--run-folder", "other")
    compared = run(tmp_path, "compare", "e", "other").stdout
    assert f"pairs: pointwise @ {server.model}: no verdict" in compared
    assert "longest - shortest" in compared
    assert "pointwise" not in compared.partition("no verdict")[0].replace(f"pointwise @ {server.model}: ", "")


def test_a_key_that_is_lost_names_the_folder_that_goes_on(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 8)

    def evaluate(*, answered: int) -> str:
        with FaultServer(from_then_on(Fault.UNAUTHORIZED, after=answered)) as server:
            arguments = [
                "-b",
                source,
                "-r",
                "flip",
                "--base-url",
                server.base_url,
                "-m",
                server.model,
                "--cache",
                "off",
            ]
            finished = run(tmp_path, "evaluate", *arguments, "--run-folder", f"e{answered}")
        assert finished.returncode == 4
        return finished.stderr

    assert "Evaluation folder" not in evaluate(answered=0), "there is nothing to go on from"
    assert "The same command goes on from here.\nEvaluation folder: e6\n" in evaluate(answered=6)


def test_a_recipe(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl")
    (tmp_path / "r.yaml").write_text(
        "benchmarks: [pairs.jsonl]\nrewards: [flip, copy]\nmodels: [{model: scripted}]\n"
        "reward: {temperature: 0.7}\nruns: 2\n"
    )
    finished = run(tmp_path, "evaluate", "r.yaml", "-m", "scripted", "--limit", "6", "--run-folder", "e")
    assert finished.returncode == 0, finished.stderr
    assert "flip reasoned @ scripted, run 2 of 2: 6 of 6 items to score" in finished.stderr
    assert "temperature is set by the recipe" in run(tmp_path, "evaluate", "r.yaml", "--temperature", "1").stderr


def test_interrupted_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl", 100)
    with FaultServer(latency_seconds=0.2) as server:
        arguments = ["evaluate", "-b", source, "-r", "longest", "-r", "flip", "--base-url", server.base_url, "-m"]
        arguments += [server.model, "--cache", "off", "--concurrency", "8", "--run-folder", "eval"]
        process = start(tmp_path, *arguments)
        records = tmp_path / f"eval/cells/pairs--flip-reasoned--{server.model}/records.jsonl"
        deadline = time.monotonic() + 60
        while not (records.exists() and records.stat().st_size):
            assert time.monotonic() < deadline, "no record came"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert "The same command goes on from here" in errors
        assert [cell["reward"] for cell in json.loads((tmp_path / "eval/results.json").read_text())["cells"]] == [
            "longest"
        ]
        assert run(tmp_path, *arguments).returncode == 0
        assert set(server.requests.values()) == {1}, "an answer was thrown away"
    assert len(json.loads((tmp_path / "eval/results.json").read_text())["cells"]) == 2


def test_a_lost_engine_is_status_4_and_keeps_the_rest(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    finished = run(
        tmp_path, "evaluate", "-b", source, "-r", "copy", "-r", "flip", "-m", "m", "--base-url", "http://127.0.0.1:9/v1",
        "--cache", "off", "--run-folder", "e",
    )  # fmt: skip
    assert finished.returncode == 4
    assert [cell["reward"] for cell in json.loads((tmp_path / "e/results.json").read_text())["cells"]] == ["copy"]


def test_compare(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    for reward in ("longest", "shortest"):
        run(tmp_path, "evaluate", "-b", source, "-r", reward, "--run-folder", reward)
    finished = run(tmp_path, "compare", "longest", "shortest")
    assert finished.returncode == 0
    assert "pairs: longest - shortest: -1.000 (-1.000 to " in finished.stdout
    assert "shortest is better" in finished.stdout
    found = json.loads(run(tmp_path, "compare", "shortest", "longest", "--json").stdout)
    assert (found["comparisons"][0]["verdict"], found["left_out"]) == ("a better", [])


def test_mistakes_end_in_one_line_and_status_2(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "pairs.jsonl")
    write_rows(tmp_path / "bad.jsonl", [{"prompt": "p", "chosen": ["a"], "rejected": []}])
    write_rows(tmp_path / "plain.jsonl", [{"prompt": "p", "response": "a"}])
    run(tmp_path, "evaluate", "-b", source, "-r", "copy", "--run-folder", "whole")
    run(tmp_path, "evaluate", "-b", source, "-r", "copy", "--run-folder", "part", "--limit", "5")
    run(tmp_path, "score", "plain.jsonl", *SCRIPTED, "--run-folder", "run")
    for arguments, message in [
        (["evaluate"], "name at least one benchmark"),
        (["evaluate", "-b", source], "name at least one reward"),
        (["evaluate", "-b", "llmbra", "-r", "copy"], "did you mean 'llmbar'"),
        (["evaluate", "-b", source, "-r", "cpoy"], "did you mean 'copy'"),
        (["evaluate", "-b", f"{source}:lon", "-r", "copy"], "did you mean 'long'"),
        (["evaluate", "-b", source, "-r", "copy", "-m", "embedded"], "none of the rewards (copy) asks a model"),
        (["evaluate", "-b", "bad.jsonl", "-r", "copy"], "there are no rejected responses"),
        (["evaluate", "-b", source, "-b", source, "-r", "copy"], "two benchmarks called 'pairs'"),
        (["evaluate", "-b", source, "-r", "copy", "--run-folder", "part"], "5 items there, 20 now"),
        (["evaluate", "-b", source, "-r", "flip", "--extra-body", "x", *SCRIPTED], "not a JSON object"),
        (["evaluate", "-b", source, "-r", "flip", "-m", "embedded", "--device", "cpu"], "has the option 'device'"),
        (["evaluate", "none.yaml"], "cannot be read"),
        (["compare", "whole", "part"], "items only in the first"),
        (["compare", "whole", "whole"], "the same folder"),
        (["compare", "whole", "none"], "no folder none"),
        (["compare", "whole", "run"], "two folders of the same kind"),
    ]:
        finished = run(tmp_path, *arguments)
        assert (finished.returncode, message in finished.stderr) == (2, True), (arguments, finished.stderr)
