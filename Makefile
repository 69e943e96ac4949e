# One verb per job; `make help` lists them. What a folder contains is what is built: every .c file in
# lib/<name>/, connector/**, tests/unit/**, tests/fuzz/fuzz_*.c and bench/bench_*.c is found by itself.
#
# MODE chooses the build: release (build/), san (ASan+UBSan), tsan, cov, fuzz (build/<mode>/).

MODE ?= release
BUILD := $(if $(filter release,$(MODE)),build,build/$(MODE))
PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) pg_config)
PREFIX ?= /usr/local
VERSION := $(shell cat VERSION)

CC_release := gcc
CC_san := gcc
CC_tsan := gcc
CC_cov := clang-14
CC_fuzz := clang-14
CC := $(CC_$(MODE))
CXX := g++

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
        -Wimplicit-fallthrough -Wpointer-arith -Wundef -Werror
OPT_release := -O2 -g
OPT_san := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan := -O1 -g -fsanitize=thread
OPT_cov := -O0 -g -fprofile-instr-generate -fcoverage-mapping
OPT_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDOPT_san := -fsanitize=address,undefined
LDOPT_tsan := -fsanitize=thread
LDOPT_cov := -fprofile-instr-generate
LDOPT_fuzz := -fsanitize=address,undefined

PQ_CFLAGS = -isystem $(shell $(PG_CONFIG) --includedir)
CPPFLAGS := -I. -D_GNU_SOURCE -DPROMSCALE_VERSION='"$(VERSION)"'
CFLAGS := -std=gnu17 -fPIC -fvisibility=hidden $(WARN) $(OPT_$(MODE))
LDFLAGS := $(LDOPT_$(MODE)) -Wl,--as-needed
LIB_LDLIBS := -lsnappy -llz4 -lzstd -lm
CONNECTOR_LDLIBS = -L$(shell $(PG_CONFIG) --libdir) -lpq -lmicrohttpd -lyaml -lz -lpthread

LIBS := base model block wire
lib_srcs = $(wildcard lib/$(1)/*.c)
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
# link order: upper layers first
LIB_ARCHIVES := $(foreach l,wire block model base,$(BUILD)/lib/$(l).a)

CONNECTOR_SRCS := $(shell find connector -name '*.c' 2>/dev/null)
CONNECTOR_OBJS := $(call obj,$(filter-out connector/main.c,$(CONNECTOR_SRCS)))
UNIT_SRCS := $(shell find tests/unit -name 'test_*.c' 2>/dev/null)
UNIT_BINS := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRCS))
UNIT_HELPERS := $(call obj,$(filter-out $(UNIT_SRCS),$(shell find tests/unit -name '*.c' 2>/dev/null)))
FUZZ_SRCS := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BINS := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(FUZZ_SRCS))
BENCH_BINS := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/bench_*.c))

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14 | sed 's/^/  make /'

.PHONY: build
build: $(BUILD)/promscale extension ## compile the connector and the extension

# ---- libraries and programs ----------------------------------------------------------------

$(BUILD)/obj/%.o: %.c VERSION
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(if $(filter connector/% tests/unit/connector/%,$<),$(PQ_CFLAGS)) $(CFLAGS) -MMD -MP -c $< -o $@

define lib_rule
$(BUILD)/lib/$(1).a: $$(call obj,$$(call lib_srcs,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach l,$(LIBS),$(eval $(call lib_rule,$(l))))

$(BUILD)/promscale: $(call obj,connector/main.c) $(CONNECTOR_OBJS) $(LIB_ARCHIVES)
	$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) $(CONNECTOR_LDLIBS) -o $@

$(BUILD)/tests/unit/connector/%: $(BUILD)/obj/tests/unit/connector/%.o $(UNIT_HELPERS) $(CONNECTOR_OBJS) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) $(CONNECTOR_LDLIBS) -lcmocka -o $@

$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(UNIT_HELPERS) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) -lcmocka -o $@

# With MODE=fuzz: real libFuzzer binaries. In every other mode: replay of the committed corpus.
$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(if $(filter fuzz,$(MODE)),,$(BUILD)/obj/tests/fuzz/replay.o) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $(if $(filter fuzz,$(MODE)),-fsanitize=fuzzer) $^ $(LIB_LDLIBS) -o $@

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $^ $(LIB_LDLIBS) -o $@

.PHONY: unit-bins fuzz-bins bench-bins
unit-bins: $(UNIT_BINS)
fuzz-bins: $(FUZZ_BINS)
bench-bins: $(BENCH_BINS)

# ---- extension: PGXS, one build folder per PostgreSQL major ---------------------------------

PG_MAJOR = $(shell $(PG_CONFIG) --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
EXT_BUILD = build/extension-$(PG_MAJOR)

.PHONY: extension
extension:
	@mkdir -p $(EXT_BUILD)
	$(MAKE) --no-print-directory -C $(EXT_BUILD) -f $(CURDIR)/extension/Makefile VPATH=$(CURDIR)/extension PG_CONFIG=$(PG_CONFIG)

.PHONY: install
install: build ## install connector and extension (DESTDIR, PREFIX, PG_CONFIG)
	install -D -m 755 $(BUILD)/promscale $(DESTDIR)$(PREFIX)/bin/promscale
	$(MAKE) --no-print-directory install-extension

.PHONY: install-extension
install-extension: extension
	$(MAKE) --no-print-directory -C $(EXT_BUILD) -f $(CURDIR)/extension/Makefile VPATH=$(CURDIR)/extension PG_CONFIG=$(PG_CONFIG) DESTDIR=$(DESTDIR) install

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
