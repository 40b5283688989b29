/* fdname.h - what a descriptor of this process is, in words.
 * Owns:    nothing. Callers: any thread; asks the kernel only (never the file system, which may hang), no
 *          allocation, no lock.
 * Fork:    nothing to do.
 * The owner may close or reuse the descriptor meanwhile: the words are about what it was at that instant. */
#ifndef SW_FDNAME_H
#define SW_FDNAME_H

#include "base.h"
#include "text.h"
#include <sys/socket.h>

/* "127.0.0.1:5432", "[::1]:80", "unix:/path", "listening on 127.0.0.1:80", "pipe", "eventfd", "/path" ... */
void sw_fdname_put(struct sw_text *t, int fd);

/* The same for an address; false when it says nothing (unnamed, unknown family, too short). */
bool sw_fdname_put_address(struct sw_text *t, const struct sockaddr_storage *address, size_t bytes);

/* A path or another hostile name: escaped, and of a long one the end, which says more than the start. */
void sw_fdname_put_path(struct sw_text *t, const char *path, size_t n);

#endif
