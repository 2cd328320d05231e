"""CLIP models through open_clip: images and text.

    clip:MODEL,TAG            a model and published weights, such as clip:ViT-B-32,openai
    clip:MODEL,FILE           a checkpoint of one's own
    clip:hf-hub:ORG/REPO      a model of the Hugging Face hub
    clip:local-dir:FOLDER     a folder with open_clip_config.json and weights

Options: `space=NAME`, where several CLIP models are used side by side; `quick_gelu=yes|no`.
OpenAI's weights, and those trained from them, need the activation QuickGELU. For a tag that needs
it, it is set whatever the model's name says. A checkpoint does not tell: unless the option does,
it gets what the model's name says, as in open_clip, and the description says which.

Local embeddings of an image are its patch tokens through the last LayerNorm and the projection
(b, patches, d), for vision transformers that have both.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash
from torch.nn import functional as F

from features.device import precision_name, resolve_device, resolve_precision
from features.encoders import EncoderDescription, LocalEmbeddings
from features.encoders.clip.inputs import ClipImage, ClipText, image_steps
from features.encoders.clip.naming import activation, asks_the_hub, full_spec, named
from features.encoders.hub import comes_from_hub, hub_access
from features.encoders.spec import parse_argument, space_name
from features.errors import UserError
from features.extras import require_package
from features.space import Space
from features.tensors import tensors_hash, weights_only

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

    from features.encoders import ItemInput
    from features.space import Modality

OPTIONS = ("space", "quick_gelu")
_PROBES = (
    "A photo of two Dogs, running.",
    "it's   12:45 &amp; 3.14 <b>über</b> naïve cafés",
    "\u4e00 \u65e5 \U0001f600 #tag @name",
)
_ANSI = re.compile("\x1b\\[[0-9;]*m")


def load_clip(argument: str, *, device: str = "auto", precision: str = "fp32") -> OpenClipEncoder:
    """Load the open_clip model that `argument` names (see the module).

    Raises UserError if open_clip is missing, the model or its weights are not known or cannot be
    had, or the weights do not fit the model.
    """
    open_clip = require_package("open_clip", "the encoder clip")
    parsed = parse_argument(argument, family="clip", options=OPTIONS)
    space = space_name(parsed, "clip")
    name, pretrained = named(parsed, open_clip)
    where, dtype = resolve_device(device), resolve_precision(precision)
    quick_gelu = activation(parsed, name, pretrained, open_clip)
    extra = {} if quick_gelu is None else {"quick_gelu": quick_gelu}
    told = ",quick_gelu=yes" * bool(quick_gelu)
    remedy = f"give a checkpoint, clip:MODEL,FILE{told}, or clip:local-dir:FOLDER{told}"
    access: AbstractContextManager[None] = nullcontext()
    if asks_the_hub(name, pretrained, open_clip):
        access = hub_access(f"the model {argument}", remedy)
    with access, weights_only(), _quietly():
        try:
            model = open_clip.create_model(name, pretrained, require_pretrained=True, **extra)
            tokenizer = open_clip.get_tokenizer(name)
            weights = tensors_hash(model.state_dict())
            if dtype != torch.float32:
                # In low precision other layers are built; the hash is that of the weights as
                # they are published.
                exact = model.state_dict()
                model = open_clip.create_model(
                    name, pretrained, load_weights=False, precision=precision, **extra
                )
                model.load_state_dict(exact)
        except Exception as error:  # the boundary to open_clip, which raises all kinds
            raise _explained(error, argument) from error
    model = model.to(where).eval()
    return OpenClipEncoder(
        model,
        tokenizer,
        Space(space, _dimension(model, tokenizer(["a"]).to(where)), ("image", "text")),
        EncoderDescription(
            name=f"open_clip {name}",
            spec=full_spec(parsed, name, pretrained),
            weights=weights,
            modalities=("image", "text"),
            preprocessing=_preprocessing(model, tokenizer),
            precision=precision_name(dtype),
            versions={
                "open_clip": open_clip.__version__,
                "torch": torch.__version__,
                "device": where.type,
            },
        ),
        dtype,
    )


class OpenClipEncoder:
    """An open_clip model, ready to embed images and texts."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        space: Space,
        description: EncoderDescription,
        dtype: torch.dtype,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.space = space
        self.description = description
        self._dtype = dtype
        self._preprocess = tuple(sorted(_hashable(model.visual.preprocess_cfg).items()))
        # The transform ends with ToTensor and Normalize; see `inputs`.
        normalize = image_steps(dict(self._preprocess))[-1]
        device = next(model.parameters()).device
        self._mean = torch.as_tensor(normalize.mean, device=device)[:, None, None]
        self._std = torch.as_tensor(normalize.std, device=device)[:, None, None]

    def input(self, modality: Modality) -> ItemInput:
        """The function from a path or sentence to the array that `encode` takes."""
        self.space.require(modality)
        return ClipImage(self._preprocess) if modality == "image" else ClipText(self.tokenizer)

    @torch.inference_mode()
    def encode(
        self, batch: Sequence[NDArray[Any]], modality: Modality
    ) -> Float[torch.Tensor, "b d"]:
        """Unit-norm float32 embeddings of a batch of arrays from `input(modality)`."""
        self.space.require(modality)
        if modality == "image":
            embedded = self.model.encode_image(self._images(batch))
        else:
            tokens = torch.from_numpy(np.stack(batch)).to(self._mean.device)
            embedded = self.model.encode_text(tokens)
        return F.normalize(embedded.float(), dim=-1)

    def local_length(self, modality: Modality) -> int:
        """Patches of an image; 0 for text, and for towers whose patches are not projected."""
        visual = self.model.visual
        if modality != "image" or getattr(visual, "proj", None) is None:
            return 0
        # CoCa pools by attention into what its last norm and projection are for.
        if getattr(visual, "attn_pool", None) is not None or not hasattr(visual, "ln_post"):
            return 0
        return int(visual.grid_size[0] * visual.grid_size[1])

    @torch.inference_mode()
    def encode_local(self, batch: Sequence[NDArray[Any]], modality: Modality) -> LocalEmbeddings:
        """Embeddings of images and of their patches, row by row from the top left."""
        if not self.local_length(modality):
            raise UserError(f"{self.description.name} has no local embeddings of {modality}")
        visual = self.model.visual
        found = visual.forward_intermediates(
            self._images(batch), indices=1, normalize_intermediates=True, output_fmt="NLC"
        )
        local = found["image_intermediates"][0] @ visual.proj
        return LocalEmbeddings(
            pooled=F.normalize(found["image_features"].float(), dim=-1),
            local=F.normalize(local.float(), dim=-1),
            mask=torch.ones(local.shape[:2], dtype=torch.bool),
        )

    def _images(self, batch: Sequence[NDArray[Any]]) -> Float[torch.Tensor, "b 3 h w"]:
        pixels = torch.from_numpy(np.stack(batch)).to(self._mean.device)
        scaled = pixels.permute(0, 3, 1, 2).contiguous().float().div(255)
        return scaled.sub_(self._mean).div_(self._std).to(self._dtype)


def _dimension(model: Any, tokens: torch.Tensor) -> int:
    """Asked of the model itself: its towers keep it in places of their own."""
    with torch.inference_mode():
        return int(model.encode_text(tokens).shape[1])


def _preprocessing(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Asked of the model itself, wherever its configuration came from."""
    names = {type(module).__name__ for module in model.modules()}
    heads = {
        tower: next((m.num_heads for m in modules if hasattr(m, "num_heads")), None)
        for tower, modules in (("image", model.visual.modules()), ("text", _text_modules(model)))
    }
    tokens = tokenizer(list(_PROBES)).numpy()
    return {
        "image": {
            **_hashable(model.visual.preprocess_cfg),
            "orientation": "EXIF",
            "heads": heads["image"],
        },
        "text": {
            "context_length": tokens.shape[1],
            # Vocabulary, case and cleaning, in what they make of a few sentences.
            "tokens": xxhash.xxh3_64_hexdigest(np.ascontiguousarray(tokens, dtype="<i8").data),
            "heads": heads["text"],
        },
        "activation": "QuickGELU" if "QuickGELU" in names else "GELU",
    }


def _text_modules(model: Any) -> Iterator[Any]:
    visual = set(model.visual.modules())
    return (module for module in model.modules() if module not in visual)


def _hashable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without lists, which a configuration read from JSON has."""
    return {key: tuple(one) if isinstance(one, list) else one for key, one in config.items()}


def _explained(error: Exception, argument: str) -> Exception:
    """What went wrong in open_clip; errors of the hub keep their kind, for `hub_access`."""
    if comes_from_hub(error):
        return OSError(str(error))
    told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    told = _ANSI.sub("", told)
    if type(error).__name__ == "UnpicklingError":
        return UserError(
            f"the weights of clip:{argument} hold Python objects, which could run code when they "
            "are read: save the state_dict as .safetensors"
        )
    return UserError(
        f"open_clip cannot load clip:{argument} ({told.rstrip(':')}): check that the weights "
        "belong to the model"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without open_clip's warnings about what is settled here: activation and random weights."""
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
