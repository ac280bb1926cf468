import logging

import pytest
import torch

from hpa_search.training.device import choose_device

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
