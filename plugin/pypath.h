/* pypath.h - makes `import slowwatch` work in the applications of this uWSGI with nothing installed for their Python.
 * Each interpreter that uWSGI's Python plugin makes, also those of further mounted applications, gets the folder of the
 * package at the end of its sys.path before it loads an application; so a slowwatch that is installed there wins.
 * Owns:    the path, for the life of the process.
 * Callers: the set-up process, in the order below. What it hands over runs in whichever process makes an interpreter.
 * Fork:    nothing to do.
 * No failure ends a start: it is said in one line, and the applications run without the package. */
#ifndef SW_PYPATH_H
#define SW_PYPATH_H

/* on_load: finds the folder from the plugin's own path, while relative paths still hold */
void sw_pypath_locate(void);
/* post_init: hands it to the Python plugin, if there is one */
void sw_pypath_offer(void);

#endif
