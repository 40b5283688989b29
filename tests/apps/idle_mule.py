"""What a mule and a spooler run: nothing, until they are told to leave."""

try:
    import uwsgi

    if hasattr(uwsgi, "mule_get_msg") and uwsgi.mule_id():
        while True:
            uwsgi.mule_get_msg()
except ImportError:
    pass
