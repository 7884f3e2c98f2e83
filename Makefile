# Targets for changes of kernels/. `npm run build` builds what a user needs.
#
#   make native          build/gqa.node for this machine
#   make wasm            src/backend/wasm/*.wasm, the WASM kernels of the package (downloads clang, 100 MB, from npm)
#   make sanitize        runs kernels/test/*.c under the address and undefined-behaviour sanitizers, once per vector width
#   make sanitize-arm64  the same for arm64, under an emulator (ARM64_CC and ARM64_RUN name compiler and emulator; Debian:
#                        gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
#   make sanitize-addon  runs the tests with hostile arguments on an addon built with the address sanitizer
#                        (TESTS=test/cache adds others)
#   make format          clang-format over kernels/ (CLANG_FORMAT=... names another binary)

CC ?= cc
CLANG_FORMAT ?= clang-format
ARM64_CC ?= aarch64-linux-gnu-gcc
ARM64_RUN ?= qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu

native:
	node scripts/build-native.mjs

wasm: tools/wasm/node_modules
	node tools/wasm/build.mjs

tools/wasm/node_modules: tools/wasm/package-lock.json
	npm ci --prefix tools/wasm

format:
	$(CLANG_FORMAT) -i kernels/*.[ch] $(wildcard kernels/test/*.[ch])

# The vector widths that this machine has: 4 everywhere, 8 with AVX2, 16 with AVX-512.
CPU := $(shell grep -m1 '^flags' /proc/cpuinfo 2>/dev/null)
WIDTHS := 4 $(and $(filter avx2,$(CPU)),$(filter fma,$(CPU)),8) $(and $(filter avx512vl,$(CPU)),$(filter avx512dq,$(CPU)),16)
FLAGS_4 :=
FLAGS_8 := -mavx2 -mfma -mf16c
FLAGS_16 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512
SANITIZE := -std=gnu11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
  -ffp-contract=fast -fno-math-errno -fno-trapping-math
C_TESTS := $(patsubst kernels/test/%.c,%,$(wildcard kernels/test/*.c))
SANITIZED := $(foreach width,$(WIDTHS),$(foreach test,$(C_TESTS),build/sanitize/$(test)-$(width)))

sanitize: $(SANITIZED)
	@test -n "$(SANITIZED)" || { echo "make sanitize: no kernels/test/*.c"; exit 1; }
	@for program in $(SANITIZED); do echo "$$program"; ./$$program || exit 1; done

SANITIZED_ARM64 := $(foreach test,$(C_TESTS),build/sanitize/$(test)-arm64)

# The units of kernels/units.h, with their own flags.
UNITS_X64 := amx avx512_bf16 avx512_vnni avx2_vnni
UNITS_ARM64 := neon_bf16 neon_dot
UNITS := $(if $(filter aarch64 arm64,$(shell uname -m)),$(UNITS_ARM64),$(UNITS_X64))
FLAGS_amx := -mamx-tile -mamx-bf16
FLAGS_avx512_bf16 := $(FLAGS_16) -mavx512bf16
FLAGS_avx512_vnni := $(FLAGS_16) -mavx512vnni
FLAGS_avx2_vnni := $(FLAGS_8) -mavxvnni
FLAGS_neon_bf16 := -march=armv8.2-a+bf16
FLAGS_neon_dot := -march=armv8.2-a+dotprod

# $(1): the folder, $(2): the compiler
define SANITIZED_UNIT
build/sanitize/$(1)/%.o: kernels/units_%.c $(wildcard kernels/*.h) Makefile
	@mkdir -p $$(@D)
	$(2) $$(SANITIZE) $$(FLAGS_$$*) -c $$< -o $$@
endef
$(eval $(call SANITIZED_UNIT,host,$(CC)))
$(eval $(call SANITIZED_UNIT,arm64,$(ARM64_CC)))
UNIT_OBJECTS := $(UNITS:%=build/sanitize/host/%.o)
UNIT_OBJECTS_ARM64 := $(UNITS_ARM64:%=build/sanitize/arm64/%.o)
.SECONDARY: $(UNIT_OBJECTS) $(UNIT_OBJECTS_ARM64)

# No leak check: it does not work in the emulator.
sanitize-arm64: $(SANITIZED_ARM64)
	@for program in $(SANITIZED_ARM64); do echo "$$program"; ASAN_OPTIONS=detect_leaks=0 $(ARM64_RUN) $$program || exit 1; done

SANITIZED_WITH := $(patsubst %,kernels/%.c,memory os_posix processor scratch threads units)

# $(1): the width or platform, $(2): VL, $(3): the compiler, $(4): the objects of units
define SANITIZED_PROGRAM
build/sanitize/%-$(1): kernels/test/%.c $(wildcard kernels/*.[ch]) $(4) Makefile
	@mkdir -p build/sanitize
	$(3) $$(SANITIZE) $$(FLAGS_$(1)) -DVL=$(2) -DGQA_ISA=test -I kernels $$< $(SANITIZED_WITH) $(4) -o $$@ -lm -lpthread
endef
$(foreach width,4 8 16,$(eval $(call SANITIZED_PROGRAM,$(width),$(width),$(CC),$(UNIT_OBJECTS))))
$(eval $(call SANITIZED_PROGRAM,arm64,4,$(ARM64_CC),$(UNIT_OBJECTS_ARM64)))

# No leak check, because V8 frees nothing at exit. Tests ask for more memory than there is: malloc must return NULL.
ASAN_LIBRARY := $(shell $(CC) -print-file-name=libasan.so)
sanitize-addon:
	node scripts/build-native.mjs --sanitize
	LD_PRELOAD=$(ASAN_LIBRARY) ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 GQA_ADDON=$(CURDIR)/build/sanitize/gqa.node GQA_TEST_BACKENDS=native \
	  node node_modules/vitest/vitest.mjs run --pool=forks test/backend/hostile.test.ts test/nn/attention-cache.test.ts $(TESTS)

.PHONY: native wasm format sanitize sanitize-arm64 sanitize-addon
