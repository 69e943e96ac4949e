# One verb per job; `make help` lists them. What a folder contains is what is built: every .c file in
# lib/<name>/, connector/**, tests/unit/**, tests/fuzz/fuzz_*.c and bench/bench_*.c is found by itself.
#
# MODE chooses the build: release (build/), san (ASan+UBSan), tsan, cov, fuzz (build/<mode>/).
# V=1 shows the commands. ARGS="--flag value" goes to the program with "make run" and "make demo".
#
# Nothing here needs a compiler or pg_config before tools/setup has run: verbs that need packages call
# it first and then a second make.

MODE ?= release
BUILD := $(if $(filter release,$(MODE)),build,build/$(MODE))
PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) pg_config)
PREFIX ?= /usr/local
VERSION := $(shell cat VERSION)
Q := $(if $(V),,@)
# what a verb runs after tools/setup
AGAIN := +@$(MAKE) --no-print-directory -j$(shell nproc 2>/dev/null || echo 2)

CC_release := gcc
CC_san := gcc
CC_tsan := gcc
CC_cov := gcc
CC_fuzz := clang-14
CC := $(CC_$(MODE))
CXX := $(if $(filter fuzz,$(MODE)),clang++-14,g++)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
        -Wimplicit-fallthrough -Wpointer-arith -Wundef -Werror
OPT_release := -O2 -g
OPT_san := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan := -O1 -g -fsanitize=thread
OPT_cov := -O0 -g --coverage
OPT_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDOPT_san := -fsanitize=address,undefined
LDOPT_tsan := -fsanitize=thread
LDOPT_cov := --coverage
LDOPT_fuzz := -fsanitize=address,undefined

PQ_CFLAGS = -isystem $(shell $(PG_CONFIG) --includedir)
CPPFLAGS := -I. -D_GNU_SOURCE -DPROMSCALE_VERSION='"$(VERSION)"'
# Sums must have the same bits on every processor: no fused multiply-add.
CFLAGS := -std=gnu17 -ffp-contract=off -fPIC -fvisibility=hidden $(WARN) $(OPT_$(MODE))
LDFLAGS := $(LDOPT_$(MODE)) -Wl,--as-needed
LIB_LDLIBS := -lsnappy -llz4 -lzstd -lre2 -lstdc++ -lm
CONNECTOR_LDLIBS = -L$(shell $(PG_CONFIG) --libdir) -lpq -lmicrohttpd -lyaml -lz -lpthread

LIBS := base model block chunk wire exposition otlp regex histogram promql index eval
lib_srcs = $(wildcard lib/$(1)/*.c lib/$(1)/*.cc)
obj = $(patsubst %.cc,$(BUILD)/obj/%.o,$(patsubst %.c,$(BUILD)/obj/%.o,$(1)))
# link order: upper layers first
LIB_ARCHIVES := $(foreach l,eval promql index regex otlp exposition wire chunk block histogram model base,$(BUILD)/lib/$(l).a)

CONNECTOR_SRCS := $(shell find connector -name '*.c' 2>/dev/null)
CONNECTOR_OBJS := $(call obj,$(filter-out connector/main.c,$(CONNECTOR_SRCS)))
UNIT_SRCS := $(shell find tests/unit -name 'test_*.c' 2>/dev/null)
UNIT_BINS := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRCS))
UNIT_HELPERS := $(call obj,$(filter-out $(UNIT_SRCS),$(shell find tests/unit -name '*.c' 2>/dev/null)))
# the runner of PromQL scripts; tests may link its parts
PROMQL_TEST_OBJS := $(call obj,$(filter-out tests/promql/promqltest.c,$(wildcard tests/promql/*.c)))
PROMQL_TEST := $(BUILD)/tests/promqltest
FUZZ_SRCS := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BINS := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(FUZZ_SRCS))
BENCH_BINS := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/bench_*.c))

# objects of tests are kept, and a half-written file is not
.SECONDARY:
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the verbs
	@echo "make VERB [V=1] [ARGS=\"--flag value\", for run, demo, bench]"
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20 | sed 's/^/  make /'

.PHONY: build
build: $(BUILD)/promscale extension ## compile the connector and the extension

# ---- libraries and programs ----------------------------------------------------------------

$(BUILD)/obj/%.o: %.c VERSION
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(if $(filter connector/% tests/unit/connector/% bench/bench_ingest.c,$<),$(PQ_CFLAGS)) $(CFLAGS) -MMD -MP -c $< -o $@

# The C++ shim around RE2: no exceptions or run-time types of our own
$(BUILD)/obj/%.o: %.cc VERSION
	@mkdir -p $(@D)
	@echo "  CXX   $<"
	$(Q)$(CXX) $(CPPFLAGS) -std=gnu++17 -fPIC -fvisibility=hidden -Wall -Wextra -Wshadow -Werror \
		$(OPT_$(MODE)) -MMD -MP -c $< -o $@

define lib_rule
$(BUILD)/lib/$(1).a: $$(call obj,$$(call lib_srcs,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	@echo "  AR    $$@"
	$(Q)ar rcs $$@ $$^
endef
$(foreach l,$(LIBS),$(eval $(call lib_rule,$(l))))

$(BUILD)/promscale: $(call obj,connector/main.c) $(CONNECTOR_OBJS) $(LIB_ARCHIVES)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) $(CONNECTOR_LDLIBS) -o $@

$(BUILD)/tests/unit/connector/%: $(BUILD)/obj/tests/unit/connector/%.o $(UNIT_HELPERS) $(CONNECTOR_OBJS) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) $(CONNECTOR_LDLIBS) -lcmocka -o $@

$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(UNIT_HELPERS) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) -lcmocka -o $@

# Small programs that tests run (make blocks for SQL tests, ...).
$(BUILD)/tests/tools/%: $(BUILD)/obj/tests/tools/%.o $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) -o $@

$(PROMQL_TEST): $(call obj,tests/promql/promqltest.c) $(PROMQL_TEST_OBJS) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) -lpthread -o $@

# Answers many queries over a script's data; for tests/promql/differential.
$(BUILD)/tests/promql-ask: $(call obj,tests/promql/differential/ask.c) $(PROMQL_TEST_OBJS) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) -lpthread -o $@

# With MODE=fuzz: real libFuzzer binaries. In every other mode: replay of the committed corpus.
$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(if $(filter fuzz,$(MODE)),,$(BUILD)/obj/tests/fuzz/replay.o) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $(if $(filter fuzz,$(MODE)),-fsanitize=fuzzer) $^ $(LIB_LDLIBS) -o $@

# Measures the connector's own stages, hence links them.
$(BUILD)/bench/bench_ingest: $(BUILD)/obj/bench/bench_ingest.o $(CONNECTOR_OBJS) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) $(CONNECTOR_LDLIBS) -o $@

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) -o $@

.PHONY: unit-bins fuzz-bins bench-bins promql-bins
unit-bins: $(UNIT_BINS)
promql-bins: $(PROMQL_TEST) $(BUILD)/tests/promql-ask
fuzz-bins: $(FUZZ_BINS)
bench-bins: $(BENCH_BINS)

# ---- extension: PGXS, one build folder per PostgreSQL major ---------------------------------

PG_MAJOR = $(shell $(PG_CONFIG) --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
EXT_BUILD = build/extension-$(PG_MAJOR)
EXT_MAKE = $(MAKE) --no-print-directory $(if $(V),,-s) -C $(EXT_BUILD) -f $(CURDIR)/extension/Makefile \
           VPATH=$(CURDIR)/extension PG_CONFIG=$(PG_CONFIG)

.PHONY: extension
extension:
	@mkdir -p $(EXT_BUILD)
	@echo "  EXT   $(EXT_BUILD)"
	+$(Q)$(EXT_MAKE)

.PHONY: install
install: build ## install connector and extension (DESTDIR, PREFIX, PG_CONFIG)
	install -D -m 755 $(BUILD)/promscale $(DESTDIR)$(PREFIX)/bin/promscale
	$(MAKE) --no-print-directory install-extension

.PHONY: install-extension
install-extension: extension ## install the extension only
	+$(Q)$(EXT_MAKE) DESTDIR=$(DESTDIR) install

# ---- verbs ---------------------------------------------------------------------------------

.PHONY: run
run: ## set the machine up, build, start: data in ./promscale-data, http://127.0.0.1:9201
	@tools/setup run
	$(AGAIN) build
	@tools/install-extension "$(PG_CONFIG)"
	@exec build/promscale $(ARGS)

.PHONY: demo
demo: ## the same with a Prometheus and a node_exporter that write into it
	@tools/setup demo
	$(AGAIN) build
	@tools/install-extension "$(PG_CONFIG)"
	@exec tools/demo $(ARGS)

.PHONY: test
test: ## set the machine up and run every test
	@tools/setup test
	$(AGAIN) build unit-bins fuzz-bins promql-bins
	$(AGAIN) MODE=cov fuzz-bins
	@tools/install-extension "$(PG_CONFIG)"
	@tests/run

.PHONY: test-pg17
test-pg17: ## the SQL tests on PostgreSQL 17 beside TimescaleDB, in a Debian 13 (needs root)
	@tools/setup pg17
	@tests/pg17/run

.PHONY: san
san: ## unit tests, fuzz replay and end to end with AddressSanitizer and UBSan
	@tools/setup test
	$(AGAIN) build
	$(AGAIN) MODE=san build/san/promscale unit-bins fuzz-bins promql-bins
	@tools/install-extension "$(PG_CONFIG)"
	@MODE=san tests/run unit promql fuzz e2e

.PHONY: tsan
tsan: ## unit tests with ThreadSanitizer
	@tools/setup test
	$(AGAIN) MODE=tsan unit-bins
	@MODE=tsan tests/run unit

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: ## fuzz each target for FUZZ_SECONDS (60); finds go to build/fuzz/
	@tools/setup fuzz
	$(AGAIN) MODE=fuzz fuzz-bins
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz

.PHONY: cov
cov: ## lines of the libraries that the fuzz corpora and the unit tests reach
	@tools/setup test
	$(AGAIN) MODE=cov fuzz-bins $(addprefix build/cov/,$(patsubst %.c,%,$(filter-out tests/unit/connector/%,$(UNIT_SRCS))))
	@tools/cov

.PHONY: bench
bench: ## samples/s, CPU, WAL and disk for the standard load; SQL against a heap; backfill; disk by kind; PromQL
	@tools/setup test
	$(AGAIN) build bench-bins
	@tools/install-extension "$(PG_CONFIG)"
	@set -e; for b in $(filter-out %_load,$(BENCH_BINS)); do echo "== $$b"; $$b; done
	@echo "== bench/ingest.py"
	@/usr/bin/python3 bench/ingest.py $(ARGS)
	@echo "== bench/sql.py"
	@/usr/bin/python3 bench/sql.py
	@echo "== bench/backfill.py"
	@/usr/bin/python3 bench/backfill.py
	@echo "== bench/disk.py"
	@/usr/bin/python3 bench/disk.py
	@echo "== bench/promql.py"
	@/usr/bin/python3 bench/promql.py

SOAK_MINUTES ?= 10
.PHONY: soak
soak: ## faults at random for SOAK_MINUTES (10): kill -9, outages, everything at once
	@tools/setup test
	$(AGAIN) build
	@tools/install-extension "$(PG_CONFIG)"
	@SOAK_MINUTES=$(SOAK_MINUTES) tests/run soak

.PHONY: format
format: ## clang-format what changed by hand
	@tools/setup lint
	@clang-format-14 -i $$(tools/c-files)

.PHONY: lint
lint: ## format, clang's warnings, and the checks of tools/
	@tools/setup lint
	@tools/lint

.PHONY: clean
clean: ## remove build/ (peers and downloads too)
	rm -rf build

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
