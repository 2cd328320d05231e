"""Flickr-SoundNet, the folder `Annotations` of ardasnck/learning_to_localize_sound_source.

One XML file a sample (CVPR 2018), named as its picture and sound, with `bbox` elements of three
annotators. A bbox has five children, of which the last four are left, top, right and bottom, in
this order, in pixels of a picture of 256 x 256. Two annotators make a place certain.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from features.datasets.annotations import Annotations, Boxes, Sample, digest, unique
from features.errors import UserError

PIXELS = 256
AGREED = 2
_CHILDREN = 5


def read_flickr_soundnet(path: Path) -> Annotations:
    """The samples of the folder `Annotations`; see `features.datasets.read_annotations`."""
    if not path.is_dir():
        raise UserError(
            f"{path} is not a folder: Flickr-SoundNet has a folder Annotations with an .xml file "
            "for each sample"
        )
    files = sorted(path.glob("*.xml"))
    if not files:
        raise UserError(f"{path} has no .xml files: give Flickr-SoundNet's folder Annotations")
    boxes = Boxes(path)
    samples, contents = [], []
    for file in files:
        content = file.read_bytes()
        contents.append(f"{file.name}\0".encode() + content)
        kept = boxes.checked(_boxes(content, file), file.name)
        samples.append(Sample(file.stem, file.stem, file.stem, None, kept))
    return Annotations(
        path,
        "flickr-soundnet",
        unique(samples, path),
        digest(b"\0".join(contents)),
        agreed=AGREED,
        notes=boxes.notes(),
    )


def _boxes(content: bytes, file: Path) -> list[list[float]]:
    if b"<!" in content.replace(b"<!--", b""):
        raise UserError(f"{file} declares entities, which annotations need not: remove them")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise UserError(f"{file} is not XML ({error}): download it again") from error
    return [_edges(box, file) for box in root.iter("bbox")]


def _edges(box: ElementTree.Element, file: Path) -> list[float]:
    children = list(box)
    if len(children) != _CHILDREN:
        raise UserError(
            f"a bbox of {file} holds {', '.join(child.tag for child in box) or 'nothing'}; "
            f"Flickr-SoundNet's holds {_CHILDREN} elements, the last its edges: check --dataset"
        )
    try:
        return [float((child.text or "").strip()) / PIXELS for child in children[1:]]
    except ValueError as error:
        raise UserError(
            f"a bbox of {file} has an edge that is not a number ({error}): check --dataset"
        ) from error
