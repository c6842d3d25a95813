"""What others script against: the run folder, its files, the last line of stdout, resume, the catalogue."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.catalogue import Catalogue
from labctl.durable import read_lines
from labctl.errors import BadInput
from labctl.journal import Entry, Journal

TINY = """
extends: {quickstart}
name: tiny
steps:
  train: {{type: train, epochs: 1, augmentation: {{shift_px: 3}}}}
  capture: {{type: capture, mask: "${{steps.train.mask}}", train: 40, val: 10, test: 40, witness: none}}
  finetune: {{type: finetune, epochs: 1, model: "${{steps.train.model}}", frames: "${{steps.capture.frames}}"}}
  report: null
"""
COLUMNS = (
    "design,rig,stage,step,seed,accuracy,accuracy_low,accuracy_high,majority,n_test,blurriness,aperture_ratio,"
    "light_throughput"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> labctl.api.Run:
    """One tiny finished run, shared by the tests that only look."""
    folder = tmp_path_factory.mktemp("contract")
    path = folder / "tiny.yaml"
    path.write_text(TINY.format(quickstart=Path(__file__).parents[2] / "configs" / "protocols" / "quickstart.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        return labctl.run_protocol(path, out=folder / "run")


def summary_of(run: labctl.api.Run) -> dict[str, Any]:
    return run.folder.summary()


def test_a_run_folder_holds_what_the_documentation_promises(finished: labctl.api.Run) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert {"protocol.yaml", "rig.yaml", "events.jsonl", "metrics.jsonl", "summary.json", "artifacts"} <= names
    summary = summary_of(finished)
    assert summary["schema"] == "labctl.run/1"
    assert (summary["status"], summary["reason"]) == ("finished", "")
    for step in summary["steps"]:
        assert {"name", "type", "status", "seconds", "metrics"} <= set(step)
        assert step["status"] == "finished"
        for output in step["outputs"].values():
            assert (finished.path / output).exists()


def test_the_comparison_has_one_row_per_design_rig_stage_and_seed(finished: labctl.api.Run) -> None:
    text = (finished.path / "artifacts" / "comparison.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(text.splitlines()))
    assert [(r["design"], r["rig"], r["stage"], r["step"], r["seed"]) for r in rows] == [
        ("learned", "as-built", stage, stage, "0") for stage in ("simulated", "captured", "finetuned")
    ]
    for row in rows:
        assert 0 <= float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"]) <= 1
        assert 0 < float(row["light_throughput"]) < 1
    assert [int(row["n_test"]) for row in rows] == [357, 40, 40]


def test_the_run_log_is_valid_event_model_documents(finished: labctl.api.Run) -> None:
    from event_model import DocumentNames, schema_validators

    documents = read_lines(finished.path / "events.jsonl")
    for row in documents:
        schema_validators[DocumentNames[row["name"]]].validate(row["doc"])
    names = [row["name"] for row in documents]
    assert (names[0], names[-1], names.count("start"), names.count("stop")) == ("start", "stop", 1, 1)
    assert documents[-1]["doc"]["exit_status"] == "success"


def test_the_resolved_protocol_and_rig_run_again_to_the_same_numbers(finished: labctl.api.Run, tmp_path: Path) -> None:
    again = labctl.run_protocol(finished.path / "protocol.yaml", rig=finished.path / "rig.yaml", out=tmp_path / "again")
    assert again.metrics == finished.metrics
    assert summary_of(again)["protocol_hash"] == summary_of(finished)["protocol_hash"]
    assert [s["hash"] for s in summary_of(again)["steps"]] == [s["hash"] for s in summary_of(finished)["steps"]]


def test_epochs_are_recorded_once_each(finished: labctl.api.Run) -> None:
    rows = [row for row in finished.history() if row["step"] == "train/learned/seed0"]
    assert [row["index"] for row in rows] == [0]
    assert {"loss", "train_accuracy", "val_accuracy", "aperture_ratio"} == set(rows[0]["values"])


def test_a_finished_run_resumes_to_itself_and_runs_nothing_again(finished: labctl.api.Run) -> None:
    before = (finished.path / "journal.jsonl").read_text()
    began, seconds = (summary_of(finished)[name] for name in ("began", "seconds"))
    resumed = labctl.api.resume(finished.path)
    assert resumed.status == "finished"
    assert resumed.metrics == finished.metrics
    assert (finished.path / "journal.jsonl").read_text() == before
    assert summary_of(resumed)["began"] == began, "a run began when it was first started"
    assert summary_of(resumed)["seconds"] == pytest.approx(seconds, abs=2)


def test_outputs_are_found_by_step_and_name(finished: labctl.api.Run) -> None:
    run = labctl.load_run(finished.path)
    assert run.artifact("train/learned/seed0", "mask").name == "mask.npy"
    with pytest.raises(BadInput, match="has no output 'nosuch'"):
        run.artifact("train/learned/seed0", "nosuch")


def test_the_catalogue_is_made_anew_from_the_folders(finished: labctl.api.Run, tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    assert catalogue.runs() == []
    catalogue.scan(finished.path.parent)
    rows = {row.path: row for row in catalogue.runs()}
    row = rows[str(finished.path)]
    assert (row.name, row.rig, row.status) == ("tiny", "as-built", "finished")
    assert row.metrics == finished.metrics


def test_what_was_made_of_other_data_is_set_aside_and_not_gone_on_with(
    finished: labctl.api.Run, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(finished.path, tmp_path / "run")
    protocol = tmp_path / "run" / "protocol.yaml"
    protocol.write_text(protocol.read_text().replace("split_seed: 0", "split_seed: 1"))
    resumed = labctl.api.resume(tmp_path / "run")
    assert resumed.status == "finished"
    assert resumed.metrics != finished.metrics
    aside = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "run" / "superseded").iterdir()}
    assert {"train-learned-seed0", "capture-learned-seed0"} <= aside


def test_a_broken_catalogue_does_not_fail_a_run(
    finished: labctl.api.Run, own_state_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_state_folder.mkdir(exist_ok=True)
    (own_state_folder / "catalogue.sqlite").write_bytes(b"this is no database" * 100)
    assert labctl.api.resume(finished.path).status == "finished"
    assert "not in the catalogue" in caplog.text


def test_the_last_line_of_stdout_is_one_json_object(
    tmp_path: Path, configs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.cli import main

    protocol = tmp_path / "tiny.yaml"
    protocol.write_text(TINY.format(quickstart=configs / "protocols" / "quickstart.yaml"))
    arguments = ["run", str(protocol), "--rig", "sim", "--out", str(tmp_path / "run"), "--json"]
    monkeypatch.setattr("sys.argv", ["labctl", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    answer = json.loads(out.strip().splitlines()[-1])
    assert (answer["run"], answer["status"]) == (str(tmp_path / "run"), "finished")
    assert answer["metrics"]["simulated/learned/seed0"]["n_test"] == 357
    assert "accuracy on rig 'sim'" in err


def test_a_failing_step_fails_the_run_with_its_reason_and_leaves_the_rest_waiting(
    tmp_path: Path, configs: Path
) -> None:
    protocol = tmp_path / "tiny.yaml"
    protocol.write_text(TINY.format(quickstart=configs / "protocols" / "quickstart.yaml"))
    run = labctl.run_protocol(protocol, out=tmp_path / "run", set={"rig.twin.light.photons_per_s": 4e7})
    assert run.outcome is not None
    assert (run.status, int(run.outcome.exit_code)) == ("failed", 4)
    assert "saturates" in run.outcome.reason
    assert "dim the light" in run.outcome.reason
    statuses = {step["name"].split("/")[0]: step["status"] for step in summary_of(run)["steps"]}
    assert (statuses["simulated"], statuses["display"], statuses["capture"]) == ("finished", "failed", "waiting")
    stop = read_lines(run.path / "events.jsonl")[-1]
    assert (stop["name"], stop["doc"]["exit_status"]) == ("stop", "fail")


def test_an_observer_that_fails_does_not_fail_the_run(tmp_path: Path, configs: Path) -> None:
    class Broken:
        def see(self, event: Any) -> None:
            raise ValueError("the plot window is gone")

    protocol = tmp_path / "one.yaml"
    protocol.write_text(TINY.format(quickstart=configs / "protocols" / "quickstart.yaml"))
    drop = {f"steps.{name}": None for name in ("display", "capture", "captured", "finetune", "finetuned")}
    run = labctl.run_protocol(protocol, out=tmp_path / "run", set=drop, observers=[Broken()])
    assert run.status == "finished"


def test_an_abort_while_a_stop_is_being_written_down_does_not_tear_the_record(
    tmp_path: Path, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second Ctrl-C comes just when the runner notes that the first one ended the step."""
    written = Journal.write

    def pressed_again(journal: Journal, entry: Entry) -> None:
        if entry.word == "stopped":
            signal.raise_signal(signal.SIGINT)
        written(journal, entry)

    class Presses:
        def see(self, event: dict[str, Any]) -> None:
            if event["kind"] == "progress" and "capture" in event["key"]:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Journal, "write", pressed_again)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(quickstart=configs / "protocols" / "quickstart.yaml"))
    run = labctl.run_protocol(path, out=tmp_path / "run", observers=[Presses()])
    summary = summary_of(run)
    assert summary["status"] == "stopped"
    assert next(step["status"] for step in summary["steps"] if "capture" in step["name"]) == "stopped"
    assert "started" not in {step["status"] for step in summary["steps"]}
