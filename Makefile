# The short front of the Meson build. The two commands to know are `make run` and `make check`.
#
#   make BUILD=/tmp/b     builds elsewhere
#   make WERROR=false     for a compiler with newer warnings than ours
#   make run ARGS=...     passes ARGS to `guestmem run`
#   make coverage LINES=kcore   also lists the lines of a room that no test reached
#   make bench ROW=...    measures some rows only (bench/run --list); JSON=FILE writes what was measured
#   make soak FOR=60      for so many seconds on each; ON="nested rings shadow kvm" says on which
BUILD  ?= build
WERROR ?= true
ARGS   ?=
ROW    ?=
LINES  ?=
JSON   ?=
FOR    ?= 600
ON     ?= nested shadow kvm

# Audits and lock-order checks are on in the sanitizer builds; the plain build is what people use. Clang's runtimes are
# not linked into shared libraries, hence b_lundef. Clang is also our second compiler: it builds everything here.
PLAIN := -Dwerror=$(WERROR)
ASAN  := $(PLAIN) -Daudit=true -Db_sanitize=address,undefined
TSAN  := $(PLAIN) -Daudit=true -Db_sanitize=thread -Db_lundef=false

.PHONY: all run bench check check-long soak coverage builds format clean

all:
	@scripts/install-deps --check build
	@test -f $(BUILD)/build.ninja || meson setup $(PLAIN) $(BUILD)
	@ninja -C $(BUILD)

run:
	@scripts/install-deps run
	@$(MAKE) --no-print-directory all
	@$(BUILD)/guestmem run $(ARGS)

bench:
	@scripts/install-deps bench
	@$(MAKE) --no-print-directory all
	@bench/run --build $(BUILD) --only '$(ROW)' $(if $(JSON),--json '$(JSON)')

check:
	@scripts/install-deps check
	@$(MAKE) --no-print-directory builds
	@scripts/run-tests check $(BUILD)

check-long:
	@scripts/install-deps check
	@$(MAKE) --no-print-directory builds
	@scripts/run-tests check-long $(BUILD)

soak:
	@scripts/install-deps check
	@$(MAKE) --no-print-directory all
	@$(BUILD)/tests/soak/soak $(FOR) $(ON)

# LINES=ROOM lists what was not reached of a room.
coverage:
	@scripts/install-deps check
	@nice scripts/coverage --build $(BUILD)-coverage $(foreach room,$(LINES),--lines $(room))

# One after the other: ninja uses every core by itself.
builds: all
	@test -f $(BUILD)-asan/build.ninja || CC=gcc meson setup $(ASAN) $(BUILD)-asan
	@ninja -C $(BUILD)-asan
	@test -f $(BUILD)-tsan/build.ninja || CC=clang meson setup $(TSAN) $(BUILD)-tsan
	@ninja -C $(BUILD)-tsan

format:
	@scripts/check-format --fix

clean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-coverage
