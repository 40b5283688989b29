#include "hook.h"

#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

static struct {
    const struct sw_shared *shared; /* set before the node is in the list */
    unsigned worker;
    pid_t pid;
    unsigned open; /* watchdog thread only */
    struct uwsgi_string_list node;
} hook;

static void request_ended(struct wsgi_request *req)
{
    struct sw_report *r = sw_shared_report(hook.shared, hook.worker, (unsigned)req->async_id);
    /* The memory is shared: a child that an application forked must not end the request of its parent. */
    if (r && getpid() == hook.pid &&
        sw_report_request_ended(r, req->start_of_request, req->status, sw_now_ns()))
        sw_slot_wake(sw_shared_slot(hook.shared, hook.worker));
}

/* Request threads walk the list at any time. A node is put in and taken out with one store each, and stays valid when
 * out, so a walker that stands on it goes on to the rest. Only the watchdog thread changes the list. */
void sw_hook_in(const struct sw_shared *shared, unsigned worker)
{
    if (hook.open++ > 0)
        return;
    hook.shared = shared;
    hook.worker = worker;
    hook.pid = getpid();
    hook.node.custom_ptr = (void *)request_ended;
    hook.node.next = uwsgi.after_request_hooks;
    __atomic_store_n(&uwsgi.after_request_hooks, &hook.node, __ATOMIC_RELEASE);
}

void sw_hook_out(void)
{
    if (hook.open == 0 || --hook.open > 0)
        return;
    struct uwsgi_string_list **at = &uwsgi.after_request_hooks;
    while (*at && *at != &hook.node)
        at = &(*at)->next;
    if (*at)
        __atomic_store_n(at, hook.node.next, __ATOMIC_RELEASE);
}

unsigned sw_hook_count(void)
{
    return hook.open;
}
