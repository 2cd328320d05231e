"""Optional packages: imported when an encoder needs them, with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from features.errors import UserError

# package as it is imported -> extra of mcr-bridge that brings it
EXTRAS = {
    "open_clip": "clip",
    "laion_clap": "clap",
    "transformers": "clap-hf",
    "trimesh": "mesh",
    "pyarrow": "parquet",
    "umap": "umap",
    "huggingface_hub": "hub",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
    "matplotlib": "plot",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "httpx": "serve",
    "pydantic": "serve",
    "ray": "ray",
    "pymilvus": "milvus",
    "milvus_lite": "milvus",
}


def install_line(package: str) -> str:
    """The command that installs `package`."""
    return f'pip install "mcr-bridge[{EXTRAS[package]}]"'


def installed(package: str) -> bool:
    """Whether `package` can be imported, without importing it."""
    return find_spec(package) is not None


def require_package(package: str, what: str) -> Any:
    """Import `package`. Raises UserError with the line that installs it if it is missing."""
    if not installed(package):
        raise UserError(f"{what} needs the package {package}: {install_line(package)}")
    return import_module(package)
