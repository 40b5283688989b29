"""The examples of docs/timeouts.md run, one after another in one process as a reader would try them, and print what the
page says below them."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "timeouts.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n(\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
BEHIND = "---- behind example {} ----"

# What the examples take as given: an application that works.
GIVEN = """
class Connection:
    def ask(self, text):
        return 1

    def close(self):
        print("closed")


class Pool:
    def get(self):
        return Connection()

    def put(self, connection):
        pass


def fetch():
    return "an answer"


def work():
    pass


pool = Pool()
"""


def examples():
    """[(code, what it prints)]."""
    text = PAGE.read_text(encoding="utf-8")
    found = [(match[2], match[4] or "") for match in FENCE.finditer(text) if match[1] == "python"]
    assert len(found) == text.count("```python\n") >= 15
    return found


def test_examples_print_what_the_page_says(python):
    script, expected = [GIVEN], []
    for number, (code, prints) in enumerate(examples()):
        script += [code, f"print({BEHIND.format(number)!r}, flush=True)"]
        expected += [prints, BEHIND.format(number) + "\n"]
    done = python("-c", "\n".join(script))
    assert done.stdout == "".join(expected), done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_the_wsgi_example_answers_in_time(python):
    """The page only defines it."""
    (limited,) = [code for code, _ in examples() if "def limited(" in code]
    done = python("-c", f"""
import time
from slowwatch import timeout
{limited}
def start_response(status, headers):
    print(status)
print(limited(lambda environ, start_response: [b"answer"])({{}}, start_response))
print(limited(lambda environ, start_response: time.sleep(60), 0.05)({{}}, start_response))
""")  # fmt: skip
    assert done.stdout.splitlines() == ["[b'answer']", "503 Service Unavailable", "[b'This took too long.\\n']"], done
