"""The documents say what the program does: options, configuration snippets, fields, log lines and links."""

import os
import re
import subprocess

import pytest
from harness import BUILD, PYTHON_PLUGIN, REPO, UWSGI

PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
CONFIGURATIONS = sorted((REPO / "config").glob("*.ini"))
OPTION = re.compile(r"\bslowwatch-[a-z]+(?:-[a-z]+)*\b")


def read(path):
    return path.read_text(encoding="utf-8")


def names_of(paths):
    return [path.name for path in paths]


def table():
    """The names in the option table of the program."""
    lines = subprocess.run([BUILD / "options_table"], check=True, capture_output=True, encoding="utf-8").stdout
    names = re.findall(r"^\| `(slowwatch-[a-z-]+)`", lines, re.MULTILINE)
    assert len(names) >= 18
    return names


def fences(page, language):
    """The fenced blocks of this language, each without its fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def snippets():
    found = [(page, number, text) for page in PAGES for number, text in enumerate(fences(page, "ini"), 1)]
    return [pytest.param(text, id=f"{page.name}-{number}") for page, number, text in found]


def parse_ini(text):
    """Names with their values in the order given; anything that is no setting, comment or section is an error."""
    settings = {}
    for line in text.splitlines():
        if not line.strip() or line[0] in ";#[":
            continue
        setting = re.fullmatch(r"([a-z][a-z0-9-]*) = (\S.*)", line)
        assert setting, f"no setting: {line!r}"
        settings.setdefault(setting[1], []).append(setting[2])
    return settings


# ---- options ----


@pytest.mark.parametrize("path", PAGES + CONFIGURATIONS, ids=names_of(PAGES + CONFIGURATIONS))
def test_every_option_mentioned_exists(path):
    assert set(OPTION.findall(read(path))) - set(table()) == set()


def test_every_option_is_on_the_options_page():
    assert set(table()) - set(OPTION.findall(read(REPO / "docs" / "options.md"))) == set()


@pytest.fixture(scope="module")
def known_options():
    plugins = ",".join(filter(None, ["slowwatch", PYTHON_PLUGIN]))
    help_text = subprocess.run(
        [UWSGI, "--plugin-dir", str(BUILD), "--plugins", plugins, "--help"], capture_output=True, encoding="utf-8"
    ).stdout
    return set(re.findall(r"--([a-z0-9][a-z0-9-]*)", help_text))


@pytest.mark.parametrize("text", snippets())
def test_snippet_is_accepted_by_uwsgi(uwsgi, known_options, text):
    """uWSGI ignores options it does not know; a wrong value of ours ends the start. Files named may be missing."""
    settings = parse_ini(text)
    if "route" in settings and "route" not in known_options:
        pytest.skip("this uWSGI was built without routing")
    assert set(settings) - known_options == set()
    ours = {name: values for name, values in settings.items() if name.startswith("slowwatch-") or name == "route"}
    ours.pop("slowwatch-strict", None)
    server = uwsgi(**ours)
    server.wait_log("slowwatch: watching ")


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=names_of(CONFIGURATIONS))
def test_configuration_parses(path):
    assert parse_ini(read(path))["plugins"] == ["slowwatch,python3"]


# ---- what the program writes ----


def literals_of(call, source):
    """The format of each call of this function, its string literals joined."""
    literal = r'"(?:[^"\\]|\\.)*"'
    for found in re.finditer(rf"\b{call}\(\s*(?:[&a-z]+,\s*(?:SW_\w+,\s*)?)?({literal}(?:\s*{literal})*)", source):
        pieces = re.findall(literal, found[1])
        yield "".join(piece[1:-1] for piece in pieces).replace('\\"', '"')


def log_patterns():
    """What can follow "slowwatch: " in a line of the log, for each place in the sources that writes one."""
    formats = {"watching %s"}  # the summary is put together piece by piece
    for path in sorted((REPO / "plugin").glob("*.c")):
        source = read(path)
        formats |= set(literals_of("sw_log", source))
        for one in literals_of("sw_doctor_found", source):
            formats |= {f"{one} [%s]", f"note: {one} [%s]"}
        if path.name == "plugin.c":  # before there is a log
            refusal = next(one for one in literals_of("fprintf", source) if "another uWSGI" in one)
            formats.add(refusal.removeprefix("slowwatch: ").removesuffix("\\n"))
    formats = {one for one in formats if len(re.sub(r"%\S+", "", one)) >= 8}
    return [re.compile(re.sub(r"%(?:ll|z)?[a-z]", ".*", re.escape(one))) for one in formats]


def log_lines():
    found = [(page, line) for page in PAGES for text in fences(page, "log") for line in text.splitlines()]
    return [pytest.param(line, id=f"{page.name}-{line[11:40]}") for page, line in found]


@pytest.mark.parametrize("line", log_lines())
def test_quoted_log_line_is_written_somewhere(line):
    assert line.startswith("slowwatch: ")
    words = line.removeprefix("slowwatch: ")
    assert any(pattern.fullmatch(words) for pattern in log_patterns())


def fields_of_events():
    tables = read(REPO / "plugin/event_fields.c")
    names = set(re.findall(r"\b(?:EVENT|REQUEST|STATE|FRAME|PLACE|THREAD|TIMEOUT|WARMUP)\((\w+),", tables))
    names |= set(re.findall(r'^    \{"(\w+)", offsetof', tables, re.MULTILINE))
    names |= set(re.findall(r'\bput_(?:key|number)\(w, "(\w+)"', read(REPO / "plugin/event.c")))
    assert len(names) >= 45
    return names - {"member"}  # the parameter of those macros


def test_every_field_of_an_event_is_explained():
    page = read(REPO / "docs" / "reading-a-report.md")
    fields = page[page.index("| field | meaning |") :]
    assert {name for name in fields_of_events() if f"`{name}`" not in fields} == set()


def test_every_kind_of_event_is_explained():
    kinds = re.findall(r'\[SW_EVENT_\w+\] = "(\w+)"', read(REPO / "plugin/event_fields.c"))
    titles = re.findall(r'\[SW_EVENT_\w+\] = "([a-z -]+)"', read(REPO / "plugin/render_headline.c"))
    rows = re.findall(r"^\| `([a-z -]+)` \| `(\w+)` \|", read(REPO / "docs" / "reading-a-report.md"), re.MULTILINE)
    assert rows == list(zip(titles, kinds))
    assert len(rows) == 7


# ---- links ----


def heading_ids(path):
    """As GitHub makes them: small letters, blanks to hyphens, all else but letters, digits and hyphens dropped."""
    text = re.sub(r"^```.*?^```$", "", read(path), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_relative_links_resolve(page):
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (heading and heading not in heading_ids(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_on_the_map():
    readme = read(REPO / "README.md")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []


def test_readme_names_goals_that_exist():
    goals = set(re.findall(r"^([a-z]+):", read(REPO / "Makefile"), re.MULTILINE))
    said = {goal for page in PAGES for goal in re.findall(r"\bmake ([a-z]+)\b(?! sure)", "\n".join(fences(page, "sh")))}
    assert said - goals == set()
    assert os.access(REPO / "LICENSE", os.R_OK)
