"""Changes of vectors before they are indexed, in a FAISS file: PCA, OPQ, rotation, L2norm.

Axes: d dimensions.
"""

from __future__ import annotations

from features.search.faiss_format.content import Content


def check_transform(content: Content, d: int) -> int:
    """A change of vectors of d dimensions: dimensions of what it gives."""
    kind = content.letters()
    numbers: tuple[int, int] | None = None  # of a matrix and its bias, whose shape comes behind
    if kind in ("LTra", "rrot", "Pcam"):
        if kind == "Pcam":
            _principal_components(content, d)
        biased = content.flag()
        numbers = len(content.array("<f4", None, "matrix")), len(content.array("<f4", None, "bias"))
    elif kind == "VNrm":
        if content.number("<f4") != 2.0:
            raise ValueError("it normalises by another norm than L2")
    elif kind == "VCnt":
        content.array("<f4", d, "means")
    else:
        raise ValueError(f"the transform '{kind}' is not one that is checked here")
    d_in, d_out, trained = content.number("<i4"), content.number("<i4"), content.flag()
    if numbers is None:
        fits = d_out == d
    else:
        fits = numbers in ((d * d_out, d_out), *([] if biased else [(d * d_out, 0)]))
    if d_in != d or d_out < 1 or not trained or not fits:
        raise ValueError(f"its transform '{kind}' from {d_in} to {d_out} does not fit {d}")
    return int(d_out)


def _principal_components(content: Content, d: int) -> None:
    """How the matrix of a PCA was found."""
    content.take("<f4", 2)
    content.flag()
    content.number("<i4")
    content.array("<f4", d, "means")
    content.array("<f4", None, "eigenvalues")
    content.array("<f4", None, "eigenvectors")
