# SPDX-License-Identifier: Apache-2.0
# Thin names for what Meson and the scripts in tools/ do. `make help` lists them.

B ?= build
T ?= 60
PROMPT ?=
MODELS ?=
FIXTURES ?=
ARGS ?=
# Where the system's Meson is too old, tools/setup.sh puts one of its own into build-tools/.
MESON = $(if $(wildcard build-tools/bin/meson),build-tools/bin/meson,meson)
NINJA = $(if $(wildcard build-tools/bin/ninja),build-tools/bin/ninja,ninja)

.PHONY: help build run test bench check-peers check-quantized round-trips quality-table fuzz soak serve-speed install format check clean

help:
	@echo 'make build        build/carat; needs a C compiler, meson, ninja, pkg-config'
	@echo 'make run          install what is missing, build, let the demo model answer, see and hear: PROMPT="..." asks it'
	@echo 'make test         install what is missing, build, run every test'
	@echo 'make bench        speed of the kernels, then of the demo model'
	@echo 'make check-peers MODELS="a.gguf b.gguf"  carat and llama.cpp in turn; ARGS="--only decode" and more'
	@echo 'make check-quantized  files that carat quantizes, in llama.cpp: MODELS="...", ARGS="--types Q4_K_M" and more'
	@echo 'make round-trips FIXTURES=DIR  checkpoint to GGUF and back, for every model of a folder of fixtures'
	@echo 'make quality-table MODEL=a.gguf TEXT="a.txt b.jsonl"  what each type of carat quantize costs; ARGS="--types Q4_K_M" and more'
	@echo 'make fuzz T=60    every fuzz target for T seconds; TARGETS="gguf ..." for some'
	@echo 'make soak T=600   32 mixed clients against carat serve, kills and restarts, for T seconds'
	@echo 'make serve-speed  tokens a second of 1, 4 and 8 streams at once: MODEL=..., ARGS="--tokens 64" and more'
	@echo 'make install      into the prefix given to meson, /usr/local by default'
	@echo 'make format       let clang-format have its way'
	@echo 'make check        formatting and layering, as .ci/run checks them'
	@echo 'make clean        remove the build folders'

$(B)/build.ninja:
	@$(MESON) setup $(B)

build: $(B)/build.ninja
	@$(NINJA) -C $(B) carat

run:
	@tools/setup.sh run
	@$(MAKE) --no-print-directory build
	@tools/show.sh $(B)/carat "$(PROMPT)"

test:
	@tools/setup.sh test
	@tools/test.sh $(B)

bench: build
	@$(NINJA) -C $(B) tests/compute/check_kernels tests/engine/bench_grammar
	@$(B)/tests/compute/check_kernels --bench
	@$(B)/tests/engine/bench_grammar demo/carat-demo.gguf
	@$(B)/carat bench

check-peers: build
	@tools/check_peers.py --carat $(B)/carat $(ARGS) $(MODELS)

check-quantized: build
	@$(NINJA) -C $(B) tests/golden/all_logits
	@tools/check_quantized.py --carat $(B)/carat --logits $(B)/tests/golden/all_logits $(ARGS) $(MODELS)

quality-table: build
	@tools/quality_table.py $(B)/carat --model $(MODEL) --text $(TEXT) $(ARGS)

round-trips: build
	@CARAT=$(abspath $(B)/carat) CARAT_MODEL=$(CURDIR)/demo/carat-demo.gguf CARAT_TEST_DATA=$(CURDIR)/tests/data \
		CARAT_FIXTURES=$(FIXTURES) python3 tests/cli/test_round_trips.py

fuzz:
	@tools/setup.sh fuzz
	@tools/fuzz.sh $(T) $(TARGETS)

soak: build
	@tools/soak.py $(B)/carat --seconds $(T) $(ARGS)

serve-speed: build
	@tools/serve_speed.py $(B)/carat $(MODEL) $(ARGS)

install: $(B)/build.ninja
	@$(MESON) install -C $(B)

format:
	@tools/format.sh

check:
	@tools/format.sh --check
	@tools/tidy.py

clean:
	rm -rf build build-asan build-tsan build-clang build-fuzz build-aarch64
