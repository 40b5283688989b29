/* describe.h - what uWSGI says of a request, put into its report and its events. Everything of the client is redacted here,
 * before it leaves the worker.
 * Callers: the watchdog thread. No lock, no allocation. Fork: nothing to do. */
#ifndef SW_DESCRIBE_H
#define SW_DESCRIBE_H

#include "redact.h"
#include "report.h"
#include "request.h"

/* Method, URI, headers, application: from the copy. */
void sw_describe_request(const struct sw_raw *raw, const struct sw_peek *peek, struct sw_redact *redact,
                         struct sw_report_request *out);
/* When harakiri will strike this worker; nothing when it has no deadline. */
void sw_describe_harakiri(struct sw_event *e);

#endif
