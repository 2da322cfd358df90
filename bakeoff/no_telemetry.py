"""Keeps OpenVINO from calling home.

`import openvino` starts a session with Google Analytics as soon as the package `openvino_telemetry` can be imported,
and `convert_model` reports the parameters it was called with. OpenVINO falls back to a stub when the import fails, so
the import is made to fail, before `openvino` is imported anywhere: import this module first.
"""

import logging
import sys
from types import ModuleType
from typing import Any, cast

logger = logging.getLogger(__name__)

PACKAGE = "openvino_telemetry"


def block_telemetry() -> bool:
    """Make `import openvino_telemetry` fail from now on; False where it had been imported before."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    if modules.get(PACKAGE) is not None:
        logger.warning("openvino was imported before its telemetry was blocked: it may already have called home")
        return False
    modules[PACKAGE] = None
    return True


def import_openvino() -> Any:
    """Import OpenVINO, blocked first: for modules that import it in a function."""
    import openvino

    return openvino


TELEMETRY_BLOCKED = block_telemetry()
