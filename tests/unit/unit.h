/* unit.h - cmocka with the headers it wants before itself. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> // IWYU pragma: export: needs the four above

#endif
