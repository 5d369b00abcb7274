# make demo   enhance a sample that our own code makes:      out/demo/
#             your own video:                                make demo INPUT=my.mp4 OPTIONS="--scale 2 --frames 48"
# make test   every test
# make lint   style and types
# Each sets up what it needs in .venv by itself. On Windows, see the README for the same as plain commands.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out/demo
INPUT ?=
OPTIONS ?=

.PHONY: demo test lint clean

ifeq ($(INPUT),)
demo: $(VENV)/demo.ready
	$(BIN)/python demo/make_sample.py $(OUT)
	$(BIN)/genve enhance $(OUT)/sample.mp4 -o $(OUT)/enhanced.mp4 --overwrite $(OPTIONS)
	$(BIN)/genve enhance $(OUT)/sample.mp4 -o $(OUT)/enhanced_with_reference.mp4 --overwrite \
		--reference $(OUT)/key_frame.png --key-frame 16 $(OPTIONS)
	$(BIN)/python demo/before_after.py $(OUT)/sample.mp4 -o $(OUT)/before_after.png \
		--show "GenVE, no reference given=$(OUT)/enhanced.mp4" \
		--show "GenVE, one good frame=$(OUT)/enhanced_with_reference.mp4" --show "truth=$(OUT)/truth"
else
demo: $(VENV)/demo.ready
	mkdir -p $(OUT)
	$(BIN)/genve enhance "$(INPUT)" -o $(OUT)/enhanced.mp4 --overwrite $(OPTIONS)
	$(BIN)/python demo/before_after.py "$(INPUT)" -o $(OUT)/before_after.png --show "GenVE=$(OUT)/enhanced.mp4"
endif

test: $(VENV)/test.ready
	$(BIN)/python -m pytest

lint: $(VENV)/dev.ready
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) out

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per extra, made anew when the project file changes.
$(VENV)/%.ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[$*]"
	@touch $@
