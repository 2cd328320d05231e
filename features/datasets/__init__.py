"""Annotation files of public data sets, in the layout that their authors publish.

To add one: a file beside this one with a reader, and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from features.datasets.annotations import Annotations
from features.errors import UserError

# name on the command line -> reader(path)
READERS: dict[str, str] = {
    "vggss": "features.datasets.vggss:read_vggss",
    "music-solo": "features.datasets.music_solo:read_music_solo",
    "flickr-soundnet": "features.datasets.flickr_soundnet:read_flickr_soundnet",
    "ave": "features.datasets.ave:read_ave",
    "esc50": "features.datasets.esc50:read_esc50",
    "modelnet40": "features.datasets.modelnet40:read_modelnet40",
    "boxes": "features.datasets.boxes:read_boxes",
}


def read_annotations(dataset: str, path: str | Path) -> Annotations:
    """The annotations of `dataset` in the file, or for Flickr-SoundNet the folder, `path`.

    Raises UserError for a data set that is not known, and for a file that is missing or not in the
    layout of its authors.
    """
    if dataset not in READERS:
        raise UserError(
            f"'{dataset}' is not a data set that is known: use one of {', '.join(READERS)}, or "
            "give the labels when extracting (`mcr extract --label-column`)"
        )
    module, name = READERS[dataset].split(":")
    read: Callable[[Path], Annotations] = getattr(import_module(module), name)
    return read(Path(path))
