"""Small annotation files in the layout that the authors of each data set publish."""

from __future__ import annotations

import json
from pathlib import Path

VGGSS = [
    {"file": "zpWuikVorYg_000032", "class": "elk bugling", "bbox": [[0.25, 0.25, 0.5, 0.75]]},
    {
        "file": "ORaz32CQ29k_000130",
        "class": "coyote howling",
        "bbox": [[0.125, 0.125, 0.5, 0.875], [0.75, 0.25, 1.0, 0.5]],
    },
    {"file": "M1P1xla8rg0_000000", "class": "playing tambourine", "bbox": [[0.25, 1.0, 0.75, 1.0]]},
]
MUSIC = {
    "4Oy5VmaacaI_0_1000/frame_013/00411.jpg": {
        "bbox": [{"box": [160, 0, 240, 90], "normbox": [0.25, 0.0, 0.375, 0.25], "category_id": 1}],
        "wdith": 640,
        "height": 360,
    },
    "5_NsbkyLO2Q_0_1000/frame_000/00014.jpg": {"bbox": [], "wdith": 640, "height": 360},
}
AVE = """Category&VideoID&Quality&StartTime&EndTime
Church bell&RUhOCu3LNXM&good&0&10
Male speech, man speaking&0giAfYq9oVM&good&3&9
Church bell&VWi2ENBuTbw&good&0&0
Bark&0giAfYq9oVM&good&0&2
"""
ESC50 = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
1-100038-A-14.wav,1,14,chirping_birds,False,100038,A
"""
MODELNET40 = "airplane_0627\nnight_stand_0201\n"
MODELNET40_NAMES = "airplane\nbathtub\nnight_stand\n"
EXTENDED = """video,audio,type
zpWuikVorYg_000032,zpWuikVorYg_000032,sounding
zpWuikVorYg_000032,ORaz32CQ29k_000130,non-sounding
"""


def flickr(*boxes: tuple[int, int, int, int]) -> str:
    """One sample's file, each box by another annotator."""
    annotators = "".join(
        f"<annotator{n}><bbox><kind>object</kind><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bbox></annotator{n}>\n"
        for n, (a, b, c, d) in enumerate(boxes, start=1)
    )
    return f"<annotation><filename>10000130166</filename>\n{annotators}</annotation>\n"


def write(path: Path, content: object) -> Path:
    """A file of text, or of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
