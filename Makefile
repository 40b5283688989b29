# slowwatch: `make demo` shows it, `make test` proves it, `make help` lists the rest; see README.md.
UWSGI  ?= /usr/bin/uwsgi
PYTHON ?= /usr/bin/python3
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
CLANG  ?= clang
B      := build
VENV   := $(B)/venv
DESTDIR ?=
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
TEST_PROCESSES ?= 4

# ---- what gets installed, each dependency once ------------------------------------------------------------------
DEBS_UWSGI := uwsgi-core uwsgi-plugin-python3 uwsgi-dev
DEBS_BUILD := gcc make libc6-dev pkg-config libesmtp-dev libjansson-dev libyajl-dev libpcre2-dev libssl-dev \
              python3-dev python3-venv
DEBS_TEST  := libcmocka-dev curl procps iproute2
DEBS_LINT  := clang-format cppcheck
DEBS_BENCH := valgrind wrk strace
DEBS_FUZZ  := clang llvm libclang-rt-14-dev
# Another uWSGI than Debian's brings what it needs itself.
DEBS := $(if $(filter /usr/bin/uwsgi,$(UWSGI)),$(DEBS_UWSGI)) $(DEBS_BUILD) $(DEBS_TEST)

# ---- flags ------------------------------------------------------------------------------------------------------
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Werror
# -iquote, not -I: uwsgi.h and the system must not find our regex.h for theirs.
CPPFLAGS_SW := -D_GNU_SOURCE -iquote plugin
FORTIFY  := -D_FORTIFY_SOURCE=2
CFLAGS_SW := -std=gnu11 -O2 -g -fPIC -fvisibility=hidden -fno-omit-frame-pointer
LDFLAGS_SW := -Wl,-z,relro,-z,now -Wl,--as-needed
LIBS     := -lesmtp -lssl -lcrypto -ljansson -lyajl -lpcre2-8 -lpthread -ldl
ASAN     := -fsanitize=address,undefined -fno-sanitize-recover=undefined
TSAN     := -fsanitize=thread

# Modules that include uwsgi.h live inside uWSGI only; all others are plain C and unit tested alone.
SOURCES := $(wildcard plugin/*.c)
HEADERS := $(wildcard plugin/*.h) pyshim/slowwatch/timeout_abi.h
HOSTED := $(patsubst plugin/%.c,%,$(shell grep -l '^\#include <uwsgi.h>' $(SOURCES) /dev/null))
PURE   := $(filter-out $(HOSTED),$(patsubst plugin/%.c,%,$(SOURCES)))
# Of the Python package these know nothing of Python.
NATIVE := $(patsubst pyshim/slowwatch/%.c,%,$(wildcard pyshim/slowwatch/deadline*.c))
NATIVE_HEADERS := $(wildcard pyshim/slowwatch/deadline*.h)
FLAVOURS := plain asan tsan
UNITS  := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.PHONY: all demo test bench fuzz lint format docs deps venv units install uninstall clean help FORCE

all: $(B)/slowwatch_plugin.so $(B)/python/.ready ## build/slowwatch_plugin.so and build/python/slowwatch/

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	    while IFS='|' read -r target text; do printf '  make %-10s %s\n' "$$target" "$$text"; done
	@echo
	@echo '  UWSGI=$(UWSGI) PYTHON=$(PYTHON) choose what is built for'
	@echo '  PREFIX, DESTDIR, PLUGIN_DIR, PYTHON_DIR choose where it goes'

# ---- the plugin -------------------------------------------------------------------------------------------------
# What is built for says what it needs, here its header and its flags. It is asked each time, and the answer replaced when
# it differs, so that another or a newer one rebuilds what depends on it.
define ask # command, variable that names another
	@mkdir -p $(@D)
	@$(1) > $@.new || { echo "make: cannot run $(1); 'make deps' installs it, $(2)= names another" >&2; exit 1; }
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
endef
$(B)/uwsgi.h: FORCE
	$(call ask,$(UWSGI) --dot-h,UWSGI)
$(B)/uwsgi.cflags: FORCE
	$(call ask,$(UWSGI) --cflags,UWSGI)

# Of its flags those that shape the header, one per line and quoted for gcc's @file; folders as system ones, since we do
# not answer for warnings in them. The flags hold quoted defines, hence eval.
$(B)/uwsgi.args: $(B)/uwsgi.cflags
	@eval "printf '%s\n' $$(cat $<)" | \
	    sed -n -e '/^-D_FORTIFY_SOURCE/d' -e '/^-I\.$$/d' -e 's/["\\]/\\&/g' -e 's/^-I/-isystem/' \
	        -e '/^-D\|^-isystem/s/.*/"&"/p' > $@

$(B)/identity: tools/identity.c plugin/identity.c plugin/identity.h plugin/base.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_SW) $(CFLAGS_SW) $(WARN) -o $@ tools/identity.c plugin/identity.c
$(B)/uwsgi_identity.h: $(B)/identity $(B)/uwsgi.h $(B)/uwsgi.cflags
	@$(B)/identity $(B)/uwsgi.h $(B)/uwsgi.cflags > $@

$(B)/hosted/%.o: plugin/%.c $(HEADERS) $(B)/uwsgi.h $(B)/uwsgi.args $(B)/uwsgi_identity.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_SW) $(FORTIFY) $(CFLAGS_SW) $(WARN) -isystem $(B) @$(B)/uwsgi.args -c -o $@ $<

# Symbols of uWSGI are found when it loads the plugin; tests/e2e/test_build.py checks that nothing else is missing.
$(B)/slowwatch_plugin.so: $(patsubst %,$(B)/hosted/%.o,$(HOSTED)) $(patsubst %,$(B)/plain/%.o,$(PURE))
	$(CC) -shared $(LDFLAGS_SW) -o $@ $^ $(LIBS)

# ---- the Python package --------------------------------------------------------------------------------------------
$(B)/python.facts: FORCE
	$(call ask,$(PYTHON) tools/python_facts.py,PYTHON)
$(B)/python.args: $(B)/python.facts
	@sed -n 's/^include \(.*\)/"-isystem\1"/p' $< > $@

PACKAGE_FILES := $(wildcard pyshim/slowwatch/*.py pyshim/slowwatch/*.pyi) pyshim/slowwatch/py.typed
EXTENSION_FILE = _deadline$$(sed -n 's/^suffix //p' $(B)/python.facts)

$(B)/extension/%.o: pyshim/slowwatch/%.c $(wildcard pyshim/slowwatch/*.h) $(B)/python.args
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE $(FORTIFY) $(CFLAGS_SW) $(WARN) @$(B)/python.args -c -o $@ $<
$(B)/extension/_deadline.so: $(patsubst pyshim/slowwatch/%.c,$(B)/extension/%.o,$(wildcard pyshim/slowwatch/*.c))
	$(CC) -shared $(LDFLAGS_SW) -o $@ $^ -lpthread -ldl
# Made as a whole, so that nothing of an older source or another Python stays in it.
$(B)/python/.ready: $(B)/extension/_deadline.so $(PACKAGE_FILES) $(B)/python.facts
	@rm -rf $(@D) && mkdir -p $(@D)/slowwatch
	@cp $(PACKAGE_FILES) $(@D)/slowwatch
	cp $< $(@D)/slowwatch/$(EXTENSION_FILE)
	@touch $@

# ---- unit tests: every tests/unit/test_*.c in three flavours, linked with all pure modules -------------------------
define flavour # name, extra flags
$(B)/$(1)/%.o: plugin/%.c $(HEADERS)
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS_SW) $$(CFLAGS_SW) $$(WARN) $(2) -c -o $$@ $$<
$(B)/$(1)/%.o: pyshim/slowwatch/%.c $(NATIVE_HEADERS)
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS_SW) $$(CFLAGS_SW) $$(WARN) $(2) -c -o $$@ $$<
$(B)/$(1)/test_%: tests/unit/test_%.c $(HEADERS) $(NATIVE_HEADERS) $(wildcard tests/unit/*.h) $(B)/$(1)/libslowwatch.a
	$$(CC) $$(CPPFLAGS_SW) -iquote pyshim/slowwatch -iquote tests/unit $$(CFLAGS_SW) $$(WARN) $(2) -o $$@ $$< $(B)/$(1)/libslowwatch.a -lcmocka $$(LIBS)
$(B)/$(1)/libslowwatch.a: $(patsubst %,$(B)/$(1)/%.o,$(PURE) $(NATIVE))
	@rm -f $$@
	ar rcs $$@ $$^
units: $(patsubst %,$(B)/$(1)/%,$(UNITS))
endef
$(eval $(call flavour,plain,$(FORTIFY)))
$(eval $(call flavour,asan,$(ASAN)))
$(eval $(call flavour,tsan,$(TSAN)))

# ---- what the Python tests drive -----------------------------------------------------------------------------------
DRIVERS := $(B)/options_table
$(B)/options_table: tools/options_table.c $(HEADERS) $(B)/plain/libslowwatch.a
	$(CC) $(CPPFLAGS_SW) $(CFLAGS_SW) $(WARN) -o $@ $< $(B)/plain/libslowwatch.a $(LIBS)

ifneq ($(wildcard tests/pyreader/probe.c),)
DRIVERS += $(B)/plain/pyreader_probe.so
$(B)/plain/pyreader_probe.so: tests/pyreader/probe.c $(HEADERS) $(B)/plain/libslowwatch.a
	$(CC) $(CPPFLAGS_SW) $(FORTIFY) $(CFLAGS_SW) $(WARN) -shared -o $@ $< $(B)/plain/libslowwatch.a $(LIBS)
endif
ifneq ($(wildcard tests/mail/mail_driver.c),)
DRIVERS += $(B)/plain/mail_driver
$(B)/plain/mail_driver: tests/mail/mail_driver.c $(HEADERS) $(B)/plain/libslowwatch.a
	$(CC) $(CPPFLAGS_SW) $(FORTIFY) $(CFLAGS_SW) $(WARN) -o $@ $< $(B)/plain/libslowwatch.a $(LIBS)
endif

# ---- tools from Debian and PyPI --------------------------------------------------------------------------------------
deps: ## install the Debian packages that building and testing need, if any is missing
	@tools/need-debs $(DEBS)

venv: $(VENV)/.ready
$(VENV)/.ready: tests/requirements.txt
	@$(PYTHON) -m venv $(VENV)
	@echo "installing tests/requirements.txt into $(VENV)"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt || { \
	    echo "make: the Python packages of tests/requirements.txt could not be installed. Without access to PyPI, put" \
	         "their wheels into a folder and run: PIP_NO_INDEX=1 PIP_FIND_LINKS=/that/folder make venv" >&2; exit 1; }
	@touch $@

# ---- goals -----------------------------------------------------------------------------------------------------------
# A uWSGI built by pip has Python inside, Debian's loads it as a plugin.
IN_UWSGI = UWSGI='$(UWSGI)' SLOWWATCH_BUILD='$(abspath $(B))' \
           UWSGI_PYTHON_PLUGIN="$$(grep -q 'UDEP(python)' $(B)/uwsgi.cflags || echo python3)"

demo: ## stuck requests, and their reports in the log and in a mailbox
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all venv
	@$(IN_UWSGI) $(VENV)/bin/python demo/demo.py

# Most tests wait most of the time, so several run at once, whatever the number of CPUs; those of a file one by one.
test: ## unit tests (plain, ASan+UBSan, TSan), then all tests against a real uWSGI
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all venv units $(DRIVERS)
	@$(IN_UWSGI) $(VENV)/bin/python -m pytest tests --numprocesses $(TEST_PROCESSES) --dist loadfile

bench: ## what a request pays for being watched, and what a look costs
	@$(MAKE) --no-print-directory deps
	@tools/need-debs $(DEBS_BENCH)
	@$(MAKE) --no-print-directory all venv $(DRIVERS)
	@set -e; for f in $(sort $(wildcard tests/bench/bench_*.py)) $(wildcard tests/bench/report.py); do \
	    $(IN_UWSGI) $(VENV)/bin/python $$f; \
	done

lint: ## formatting and static checks
	@tools/need-debs $(DEBS_LINT)
	@$(MAKE) --no-print-directory venv
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --library=python --suppressions-list=tools/cppcheck.suppressions -D__x86_64__ -D_GNU_SOURCE -Iplugin \
	    plugin pyshim tools
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

C_FILES = $(wildcard $(foreach d,plugin pyshim/slowwatch tools tests/unit tests/fuzz tests/pyreader tests/mail tests/warmup tests/bench,$(d)/*.c $(d)/*.h))

format: venv ## what lint asks for, done
	clang-format -i $(C_FILES)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(B)/options_table ## write the option table into docs/options.md
	@$(PYTHON) tools/options_page.py docs/options.md

$(B)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(SOURCES) $(HEADERS)
	@mkdir -p $(@D)
	$(CLANG) $(CPPFLAGS_SW) -std=gnu11 -O1 -g -fsanitize=fuzzer,address,undefined -o $@ $< \
	    $(patsubst %,plugin/%.c,$(PURE)) $(LIBS)
fuzz: ## feed each decoder hostile bytes for FUZZ_SECONDS
	@tools/need-debs $(DEBS_BUILD) $(DEBS_FUZZ)
	@$(MAKE) --no-print-directory $(patsubst %,$(B)/fuzz/%,$(FUZZERS))
	@set -e; for f in $(FUZZERS); do \
	    mkdir -p $(B)/fuzz/corpus/$$f; \
	    seeds=tests/fuzz/corpus/$${f#fuzz_}; [ -d $$seeds ] || seeds=; \
	    $(B)/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
	        -artifact_prefix=$(B)/fuzz/$$f. $(B)/fuzz/corpus/$$f $$seeds; \
	done

# The folder where this uWSGI looks is compiled into it. A pip build says ".", and a PREFIX given by the user wins:
# then the ini file needs plugin-dir.
UWSGI_PLUGIN_DIR = $(shell sed -n 's/.*-DUWSGI_PLUGIN_DIR="\\"\([^"]*\)\\"".*/\1/p' $(B)/uwsgi.cflags)
ifeq ($(origin PREFIX),file)
PLUGIN_DIR ?= $(if $(filter /%,$(UWSGI_PLUGIN_DIR)),$(UWSGI_PLUGIN_DIR),$(PREFIX)/lib/uwsgi/plugins)
else
PLUGIN_DIR ?= $(PREFIX)/lib/uwsgi/plugins
endif

# The package goes where this Python looks for what is installed: below PREFIX when that is given and has such a folder.
PYTHON_DIR ?= $(shell $(PYTHON) tools/python_facts.py --folder $(if $(filter-out file,$(origin PREFIX)),$(PREFIX)))
# A folder with nothing else in it, beside the plugin, which puts it on the import path: applications in a virtual
# environment do not look into PYTHON_DIR.
PACKAGE_LINK = $(PLUGIN_DIR)/slowwatch_python

install: all ## the plugin and the package, where uWSGI and Python look (DESTDIR, PREFIX, PLUGIN_DIR, PYTHON_DIR)
	install -d $(DESTDIR)$(PLUGIN_DIR) $(DESTDIR)$(PACKAGE_LINK) $(DESTDIR)$(PYTHON_DIR)/slowwatch
	install -m 644 $(B)/slowwatch_plugin.so $(DESTDIR)$(PLUGIN_DIR)/slowwatch_plugin.so
	install -m 644 $(B)/python/slowwatch/*.* $(DESTDIR)$(PYTHON_DIR)/slowwatch
	ln -sfn $(PYTHON_DIR)/slowwatch $(DESTDIR)$(PACKAGE_LINK)/slowwatch
	@[ '$(PLUGIN_DIR)' = '$(UWSGI_PLUGIN_DIR)' ] || \
	    echo "$(UWSGI) does not look there by itself: put plugin-dir = $(PLUGIN_DIR) before plugins = slowwatch"

uninstall: $(B)/uwsgi.cflags $(B)/python.facts ## remove what install put there
	rm -f $(DESTDIR)$(PLUGIN_DIR)/slowwatch_plugin.so $(DESTDIR)$(PACKAGE_LINK)/slowwatch
	rm -rf $(addprefix $(DESTDIR)$(PYTHON_DIR)/slowwatch/,$(notdir $(PACKAGE_FILES)) __pycache__)
	rm -f $(DESTDIR)$(PYTHON_DIR)/slowwatch/$(EXTENSION_FILE)
	@rmdir $(DESTDIR)$(PACKAGE_LINK) $(DESTDIR)$(PYTHON_DIR)/slowwatch 2>/dev/null || :

clean: ## remove build/
	rm -rf $(B)
