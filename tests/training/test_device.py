import logging

import pytest
import torch

from hpa_search.training.device import choose_device, limit_memory, set_repeatable

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is visible")
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")


@pytest.fixture
def unchosen():
    choose_device.cache_clear()
    threads = torch.get_num_threads()
    yield
    choose_device.cache_clear()
    torch.set_num_threads(threads)


@on_cpu
def test_a_cpu_computes_in_float32(unchosen):
    chosen = choose_device()
    assert (chosen.device.type, chosen.dtype, chosen.channels_last) == ("cpu", torch.float32, False)
    layer = torch.nn.Linear(4, 4)
    with chosen.autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.float32


@on_cuda
def test_a_gpu_is_used_and_repeats(unchosen):
    chosen = choose_device()
    assert chosen.device.type == "cuda"
    assert chosen.channels_last
    assert torch.are_deterministic_algorithms_enabled()
    layer = torch.nn.Linear(4, 4, device=chosen.device)
    with chosen.autocast():
        assert layer(torch.ones(1, 4, device=chosen.device)).dtype == chosen.dtype


@pytest.mark.parametrize("repeatable", [True, False])
def test_kernels_repeat_or_are_the_fastest(monkeypatch, repeatable):
    chosen = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch, "use_deterministic_algorithms", lambda mode, warn_only: chosen.update(mode=mode, warn_only=warn_only)
    )
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", repeatable)  # undone at the end
    set_repeatable(repeatable)
    assert chosen == {"mode": repeatable, "warn_only": True}
    assert torch.backends.cudnn.benchmark is not repeatable


@pytest.mark.parametrize(
    ("share", "total", "limit"),
    [(0.25, 80e9, 0.2425), (0.5, 16e9, 0.4625), (0.5, 1e9, 0.25), (1.0, 80e9, None), (0.0, 80e9, None)],
)
def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch, share, total, limit):
    limits = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (total / 2, total))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    limit_memory(share)
    assert limits == ([] if limit is None else [pytest.approx(limit)])


def test_the_choice_is_logged_once_with_its_reason(unchosen, caplog):
    with caplog.at_level(logging.INFO):
        assert choose_device() is choose_device()
    assert len(caplog.records) == 1
    assert choose_device().reason in caplog.text


def test_threads_follow_the_environment(unchosen, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    choose_device()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("value", ["", "0", "many", "4,2"])
def test_a_strange_number_of_threads_is_left_alone(unchosen, monkeypatch, value):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    choose_device()
    assert torch.get_num_threads() == before
