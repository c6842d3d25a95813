"""What the documentation shows, works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def installed_package(folder: Path) -> None:
    """The package of docs/plug-ins.md as pip would leave it: a module and its entry points."""
    project, code = blocks("plug-ins.md", "toml")[0], blocks("plug-ins.md", "python")[0]
    (folder / "ringlab.py").write_text(code)
    info = folder / "ringlab-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ringlab\nVersion: 1\n")
    groups = re.findall(r'\[project\.entry-points\."(.+?)"\]\n(\S+) = "(.+?)"', project)
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {value}\n" for group, name, value in groups))


@pytest.mark.slow
def test_the_package_of_the_plug_in_page_runs(tmp_path: Path, configs: Path) -> None:
    installed_package(tmp_path)
    protocol = tmp_path / "ring.yaml"
    protocol.write_text(
        f"extends: {configs / 'protocols' / 'quickstart.yaml'}\n"
        "designs: {ring: {type: ring, inner_cells: 2}}\ncompare: [ring]\n"
        "steps:\n  train: {type: train, epochs: 1}\n"
        '  count: {type: count-open, mask: "${steps.train.mask}"}\n'
        '  named: {type: attack_recognise, model: "${steps.train.model}", attackers: [{type: two-layers, hidden: 32}],'
        " budget: {epochs: 2, first_cycle: 2}}\n"
        + "".join(
            f"  {name}: null\n"
            for name in ("simulated", "display", "capture", "captured", "finetune", "finetuned", "report")
        )
    )
    command = [sys.executable, "-m", "labctl", "run", str(protocol), "--out", str(tmp_path / "run"), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert '"open_cells": ' in done.stdout
    assert "identity by two-layers, all labels: " in done.stderr


@pytest.mark.slow
def test_the_python_page_runs_from_top_to_bottom(tmp_path: Path, configs: Path) -> None:
    code = blocks("python.md", "python")[0].replace("configs/", f"{configs}/")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(4, 1, 32, 32)" in done.stdout
    assert "finished 0." in done.stdout


def test_the_readme_shows_only_files_that_are_there() -> None:
    root = DOCS.parent
    text = (root / "README.md").read_text()
    named = re.findall(r"\]\((docs/[^)]+)\)", text) + re.findall(r"configs/\S+?\.yaml", text)
    assert len(named) >= 6
    missing = [name for name in named if not (root / name).exists()]
    assert missing == []


def test_every_page_links_to_pages_that_exist() -> None:
    for page in DOCS.glob("**/*.md"):
        for link in re.findall(r"\]\(([^)#]+\.md)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} → {link}"
