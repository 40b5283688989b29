/* pyline.h - the line of an instruction, from the line table of its code object.
 * Pure functions on bytes: any thread, no state. The table is hostile: nothing is read past its end, sums are
 * wider than any table can make them, and the loop ends with the table. */
#ifndef SW_PYLINE_H
#define SW_PYLINE_H

#include "base.h"

enum sw_pyline_format {
    SW_PYLINE_LNOTAB,   /* up to 3.9: pairs of increments */
    SW_PYLINE_PAIRS,    /* 3.10: pairs of (length, signed delta), -128 = no line */
    SW_PYLINE_LOCATIONS /* from 3.11: entries of a head byte and variable-length numbers */
};

/* `lasti`: offset in bytes of the instruction, negative = not started yet. Returns the line, 0 = the instruction has
 * none or lies behind the table. */
int sw_pyline_find(enum sw_pyline_format format, const unsigned char *table, size_t bytes, int first_line,
                   int64_t lasti);

#endif
