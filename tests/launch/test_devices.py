"""GPUs of ranks, and errors when GPU memory runs out; on a machine without a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.launch import local
from distcond.launch.capacity import Capacity
from distcond.runs.build import build_model, build_step
from distcond.runs.failures import WorkerError, capture_worker_error, classify_error


def test_one_visible_gpu_per_task_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "3"}
    for name, value in {**variables, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(local, "detect_capacity", lambda: Capacity(8, 1, "this machine"))
    assert local.count_processes(resolve("float_digits", {"launch": "local"}).launch) == 4
    local.check_distinct_gpus([f"node GPU-{rank}" for rank in range(4)], "auto")


def test_only_a_shared_gpu_is_refused() -> None:
    local.check_distinct_gpus(["", ""], "cpu")
    local.check_distinct_gpus(["one GPU-0", "other GPU-0"], "auto")
    with pytest.raises(ConfigError, match=r"launch\.device=auto: ranks 0, 2 share the GPU one GPU-0;"):
        local.check_distinct_gpus(["one GPU-0", "one GPU-1", "one GPU-0"], "auto")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_out_of_memory_is_deterministic(tmp_path: Path, error: Exception) -> None:
    assert classify_error(error) == "deterministic"
    with (
        pytest.raises(WorkerError, match=r"memory.*batch_size.*eval\.batch_size") as failed,
        capture_worker_error(tmp_path, 0, 0),
    ):
        raise error
    assert "\n" not in failed.value.line
    assert classify_error(RuntimeError("NCCL timed out")) == "lost_peer"


def test_out_of_memory_line_has_the_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 8 << 30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    with pytest.raises(WorkerError, match="peak 7 GiB of the GPU's 8 GiB"), capture_worker_error(tmp_path, 0, 0):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_gradients_have_their_parameters_strides() -> None:
    config = resolve("float_digits", {"method": "pgd_at", "model": "resnet20"})
    step = build_step(config, build_model(config), torch.device("cpu"))
    seen = list[tuple[tuple[int, ...], tuple[int, ...]]]()
    kernels = [parameter for parameter in step.parameters() if parameter.dim() == 4]
    for kernel in kernels:
        kernel.register_hook(lambda grad, kernel=kernel: seen.append((grad.stride(), kernel.stride())))
    for kernel in kernels:
        kernel.backward(torch.ones(kernel.shape))  # contiguous, unlike the kernel
    assert len(seen) == len(kernels) > 0
    assert all(grad == kernel for grad, kernel in seen)


@pytest.mark.parametrize(("gpu", "device"), [(False, "cpu"), (True, "auto")])
def test_evaluation_worker_without_gpu_stays_on_cpu(gpu: bool, device: str) -> None:
    pytest.importorskip("ray")
    from distcond.launch.ray.blocks import BlockWorker

    plan: Any = SimpleNamespace(config=resolve("float_digits", {"launch.cpus_per_worker": torch.get_num_threads()}))
    assert BlockWorker(plan, 0, gpu).device == device
