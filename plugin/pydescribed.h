/* pydescribed.h - the offsets that CPython, from 3.13 on, says of itself: _Py_DebugOffsets, an array of 64-bit words
 * behind an 8-byte cookie. Its shape changes each minor; here is one map per minor, and each offset is checked against
 * the size of the struct it belongs to. Pure: any thread, no state. */
#ifndef SW_PYDESCRIBED_H
#define SW_PYDESCRIBED_H

#include "pylayout.h"

#define SW_PYDESCRIBED_BYTES_MAX ((size_t)1024) /* more than any known version says */

/* NULL, or why not, as the end of a sentence. */
const char *sw_pydescribed_read(struct sw_pyoffsets *out, unsigned minor, unsigned micro, const void *at,
                                size_t bytes) SW_MUST_CHECK;

#endif
