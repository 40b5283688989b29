"""The last line of a run, for people and for scripts: "N passed, N failed", and ", N skipped" when there are any."""

import sys


def pytest_unconfigure(config):
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or config.option.collectonly:  # one of several processes has the terminal
        return

    def count(*outcomes):
        return sum(len(terminal.stats.get(outcome, ())) for outcome in outcomes)

    line = f"{count('passed', 'xfailed')} passed, {count('failed', 'error', 'xpassed')} failed"
    if skipped := count("skipped"):
        line += f", {skipped} skipped"
    sys.stdout.flush()
    print(line, flush=True)
