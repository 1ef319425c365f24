"""Whether this machine can run what is compiled for a CUDA device, asked of its driver."""

import ctypes
import platform

from crespr_onnx.targets.cuda import CAPABILITIES, DRIVER, TOOLKIT_MAJOR
from crespr_onnx.targets.run import load_cuda
from crespr_onnx.targets.system import is_here

DRIVER_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
"""What `cuDeviceGetAttribute` calls the two parts of the compute capability."""


def obstacle(capability: str) -> str | None:
    """What keeps code for a capability from running here, or None if nothing is known to."""
    system = CAPABILITIES[capability].system
    if not is_here(system):
        return f"this machine is {platform.machine()}, not {system.machine}"
    try:
        driver = ctypes.CDLL(DRIVER_LIBRARY)
    except OSError:
        return "no GPU here"
    version, found = _driver_version(driver), _device_capability(driver)
    if found is None:
        return "no GPU here"
    if found != capability:
        return f"the GPU here is {found}"
    if version < TOOLKIT_MAJOR * 1000:
        return f"the driver here is for CUDA {version // 1000}; driver {DRIVER} or newer is needed"
    try:
        load_cuda()
    except OSError as error:
        return str(error)
    return None


def _driver_version(driver: ctypes.CDLL) -> int:
    """1000 times the major version of CUDA that the driver is for, and something."""
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    return version.value


def _device_capability(driver: ctypes.CDLL) -> str | None:
    """The compute capability of the first GPU, or None if there is none."""
    count, device = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    driver.cuDeviceGet(ctypes.byref(device), 0)
    parts = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(str(value.value))
    return f"sm_{''.join(parts)}"
