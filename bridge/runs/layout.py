"""What the files and folders of a bridge, and of the run that made it, are called."""

from __future__ import annotations

from pathlib import Path

WEIGHTS_FILE, ABOUT_FILE, CARD_FILE = "bridge.safetensors", "bridge.json", "README.md"
METRICS_FILE = "metrics.jsonl"
RUN_FILE, SETTINGS_FILE = "run.json", "settings.toml"
RESULTS_FOLDER, TRACKING_FOLDER = "results", "tracking"
EVALUATION = "mcr-bridge evaluation"  # the format of results
PARTS_FOLDER = ".mixture-parts"  # of a mixture, until it is complete
LOCK_FILE = ".lock"  # of a training under way
RUNS_FOLDER = Path("runs")  # of the working folder
