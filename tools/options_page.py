"""options_page.py [--check] PAGE: writes the option table into a page of docs/, or only says if it differs."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[1] / "build" / "options_table"
BEGIN, END = "<!-- options: written by make docs -->\n", "<!-- end of options -->\n"


def main(arguments):
    check = arguments[:1] == ["--check"]
    page = Path(arguments[-1])
    old = page.read_text(encoding="utf-8")
    table = subprocess.run([PROGRAM], check=True, capture_output=True, encoding="utf-8").stdout
    before, rest = old.split(BEGIN)
    _, after = rest.split(END)
    new = before + BEGIN + table + END + after
    if check:
        return 0 if new == old else f"{page} is not what the option table says: run make docs"
    page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
