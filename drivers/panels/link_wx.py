"""Make Debian's wxPython importable in this virtual environment: `python -m drivers.panels.link_wx`.

The package index has no wxPython wheels for Linux. Debian's and Ubuntu's package works in a virtual environment of the
same Python version when its one folder is linked there; the whole folder of Debian's packages on the path would bring
their numpy along.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from labctl.errors import BadInput, LabctlError

DEBIAN_PACKAGES = Path("/usr/lib/python3/dist-packages")


def link_wx(debian: Path, site_packages: Path) -> str:
    """Link `debian`/wx into `site_packages`; returns what was done. May be called twice.

    Raises BadInput when Debian's wx is not installed, is made for another Python, or another wx is there already.
    """
    source, target = debian / "wx", site_packages / "wx"
    if not source.is_dir():
        raise BadInput(f"there is no {source}; apt-get install python3-wxgtk4.0, or elsewhere pip install wxPython")
    wanted = sysconfig.get_config_var("EXT_SUFFIX")
    if not (source / f"_core{wanted}").is_file():
        made_for = ", ".join(sorted(path.name for path in source.glob("_core.*.so"))) or "none"
        raise BadInput(
            f"{source} is made for another Python ({made_for}; this one needs _core{wanted}); make the environment "
            "with the Python of this distribution"
        )
    if target.is_symlink() and target.resolve() == source.resolve():
        return f"{target} is linked to {source} already"
    if target.is_symlink() or target.exists():
        raise BadInput(f"there is another {target}; remove it first, with pip uninstall wxPython if pip installed it")
    target.symlink_to(source)
    return f"linked {target} to {source}"


def main() -> int:
    """Link, and say so. Returns the exit code."""
    if sys.prefix == sys.base_prefix:
        sys.stderr.write("this Python is not in a virtual environment; activate one first\n")
        return BadInput.exit_code
    try:
        sys.stdout.write(link_wx(DEBIAN_PACKAGES, Path(sysconfig.get_path("platlib"))) + "\n")
    except LabctlError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
