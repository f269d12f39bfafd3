"""Loading insightface, OpenCV and onnxruntime, and saying what is missing when that fails."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from underseal_client.faces.errors import RuntimeUnavailable

_SYSTEM_LIBRARIES: Final = ("libGL", "libgthread", "libglib", "libgomp", "libstdc++", "libxcb")
_PACKAGES_HINT: Final = (
    "install the system packages (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0; Fedora: "
    "dnf install mesa-libGL glib2), or replace opencv-python by opencv-python-headless"
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The untyped libraries behind the face models."""

    onnxruntime: ModuleType
    analysis: Any
    """The class ``insightface.app.FaceAnalysis``."""


def load_runtime() -> Runtime:
    """Import the libraries; they take seconds and 100 MB, so only when a photo is looked at.

    Raises
    ------
    RuntimeUnavailable
        A Python package or a library of the system is missing; the hint names it.
    """
    # insightface 2.1 calls a function that scikit-image has renamed; nothing a user can do
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"insightface\.")
    try:
        import cv2  # noqa: F401 - insightface needs it; the likeliest to fail, so it goes first
        import onnxruntime
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise explain_import_error(error) from error
    return Runtime(onnxruntime, FaceAnalysis)


def explain_import_error(error: ImportError) -> RuntimeUnavailable:
    """Turn a failed import into the message for users."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "a package").partition(".")[0]
        return RuntimeUnavailable(
            f"the face models need the Python package {package}, which is not installed",
            hint="pip install 'underseal[client]'",
        )
    library = next((word for word in str(error).split() if ".so" in word), "").rstrip(":,")
    if library.startswith(_SYSTEM_LIBRARIES):
        return RuntimeUnavailable(
            f"OpenCV needs the system library {library}, which is not installed",
            hint=_PACKAGES_HINT,
        )
    return RuntimeUnavailable(
        "the libraries of the face models cannot be loaded",
        hint="reinstall onnxruntime, insightface and opencv-python-headless for this Python",
    )


def session_options(runtime: Runtime, threads: int) -> Any:
    """Return onnxruntime's session options for a machine that has other things to do.

    Threads that spin while they wait for work cost two to four times the time on busy cores.

    Parameters
    ----------
    threads
        Threads per model run; 0 means one per core.
    """
    options = runtime.onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return options
