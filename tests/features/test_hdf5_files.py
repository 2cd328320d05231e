"""HDF5 files on a disk that fails, and in a process that is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from features import hdf5_files
from features.hdf5_files import writing_hdf5

ROOT = Path(__file__).parents[2]
FILLS_UP = """
import resource, sys
from pathlib import Path
import numpy as np
from features.hdf5_files import writing_hdf5

for size in range(0, 14_000, 250):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
    try:
        with writing_hdf5(Path(sys.argv[1])) as (file, _):
            file.create_dataset("numbers", data=np.arange(1000))
            file.create_group("a").create_dataset("few", data=np.arange(100, dtype=np.uint8))
    except OSError as error:
        print(error)
    else:
        print("whole")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_disk_that_takes_no_more_is_an_error_and_no_crash(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLS_UP, tmp_path / "f.h5"], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert set(said) == {"[Errno 27] File too large", "whole"}
    assert said == sorted(said)  # the small ones first


def test_a_signal_within_a_write_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, before = [], signal.getsignal(signal.SIGINT)

    class Sink(hdf5_files._Sink):
        def write(self, data: memoryview) -> int:
            if not told:
                told.append(self.place)
                os.kill(os.getpid(), signal.SIGINT)
            return super().write(data)

    monkeypatch.setattr(hdf5_files, "_Sink", Sink)
    monkeypatch.setattr(hdf5_files, "_CODES", {Sink.write.__code__, *hdf5_files._CODES})
    path = tmp_path / "f.h5"
    with pytest.raises(KeyboardInterrupt), writing_hdf5(path) as (file, _):
        file.create_dataset("numbers", data=np.arange(1000))
    assert told
    assert signal.getsignal(signal.SIGINT) is before
    with h5py.File(path, "r") as file:
        assert (file["numbers"][:] == np.arange(1000)).all()
