"""What an engine folder was made from. A loader compares, and refuses or makes it anew."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec

from bakeoff.errors import Mismatch, NotReady
from service.embedded.runtime import CacheShape, Precision

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"


class EngineManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Beside every set of weights the engine serves."""

    format_version: int = FORMAT_VERSION
    base_model: str
    base_digest: str
    """`hash_model` of the Hugging Face folder."""
    adapter_digest: str = ""
    """The adapter's name; empty for the base model."""
    precision: Precision
    window: int
    """Positions the model was trained for."""
    cache_shape: CacheShape
    versions: dict[str, str] = {}


def read_manifest(folder: Path) -> EngineManifest:
    """Read the manifest of an engine folder.

    Raises:
        NotReady: no such folder.
        Mismatch: the manifest does not parse, or has another format version.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise NotReady(f"{folder} holds no prepared engine. Run: bakeoff models prepare")
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=EngineManifest)
    except msgspec.DecodeError as error:
        raise Mismatch(f"{path} is damaged ({error}). Delete {folder} and run: bakeoff models prepare") from error
    if manifest.format_version != FORMAT_VERSION:
        raise Mismatch(
            f"{path} has format {manifest.format_version}, not {FORMAT_VERSION}. Run: bakeoff models prepare"
        )
    return manifest


def is_current(folder: Path, base_digest: str, adapter_digest: str, precision: Precision) -> bool:
    """True if the folder was made from exactly these, by the installed OpenVINO."""
    try:
        found = read_manifest(folder)
    except (NotReady, Mismatch):
        return False
    made_from = (found.base_digest, found.adapter_digest, found.precision)
    return made_from == (base_digest, adapter_digest, precision) and found.versions.get("openvino") == version(
        "openvino"
    )


@contextmanager
def written_at_once(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the target's place when the block ends without an error.

    A reader sees the old folder, or the new one whole. Should two writers finish together, the last one stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    folder.chmod(0o755)
    try:
        yield folder
        old = folder.with_name(folder.name + "-old")
        if target.exists():
            target.rename(old)
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
