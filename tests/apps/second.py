"""Another application, mounted beside the first one."""

import stuck


def application(environ, start_response):
    return stuck.application(environ, start_response)
