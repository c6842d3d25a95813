"""Run the faults and print their table: `python -m tests.faults [--into docs/faults.md]`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.table import ROWS_VARIABLE, kept, markdown

HERE = Path(__file__).parent
BEGIN, END = "<!-- table: python -m tests.faults -->\n", "<!-- end of the table -->\n"

parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
parser.add_argument("--into", type=Path, metavar="FILE", help="replace the table in this file")
chosen = parser.parse_args()
with tempfile.TemporaryDirectory() as folder:
    rows = Path(folder) / "rows"
    rows.touch()
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", str(HERE)]
    code = subprocess.run(tests, env={**os.environ, ROWS_VARIABLE: str(rows)}, check=False).returncode
    table = markdown(kept(rows))
if code != 0:
    sys.exit("a test failed or none ran: no table is written")
if chosen.into is None:
    sys.stdout.write(table)
else:
    text = chosen.into.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    chosen.into.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")
