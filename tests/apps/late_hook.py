"""The application of stuck.py with a uwsgi.after_req_hook that waits at a gate of its own (?hook=PORT)."""

from urllib.parse import parse_qs

import stuck
import uwsgi
from gate import hold

waiting_hooks = []


def late():
    if waiting_hooks:
        hold(waiting_hooks.pop())  # line: late


def application(environ, start_response):
    if ports := parse_qs(environ["QUERY_STRING"]).get("hook"):
        waiting_hooks.append(int(ports[0]))
    return stuck.application(environ, start_response)


uwsgi.after_req_hook = late
