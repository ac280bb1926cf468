import weakref

import pytest
import torch

from hpa_search.training.memory import MicroBatch, is_out_of_memory


class Limited:
    """Work that holds a tensor for each image, and has memory for ``limit`` of them."""

    def __init__(self, limit, error=torch.OutOfMemoryError):
        self.limit, self.error, self.sizes, self.held, self.alive = limit, error, [], [], []

    def __call__(self, size):
        self.sizes.append(size)
        self.alive.append(sum(held() is not None for held in self.held))
        activations = torch.zeros(size)
        self.held.append(weakref.ref(activations))
        if size > self.limit:
            raise self.error("no room")
        return size


def fit(size, images, work):
    told = []
    portion = MicroBatch(size, lambda before, after: told.append((before, after)))
    return portion.fit(images, work), portion.size, told


def test_it_halves_until_the_work_fits_and_stays_there():
    assert fit(32, 32, work := Limited(10)) == (8, 8, [(32, 16), (16, 8)])
    assert work.sizes == [32, 16, 8]


def test_a_short_batch_is_not_tried_again_at_the_sizes_above_it():
    assert fit(32, 5, work := Limited(2)) == (2, 2, [(5, 2)])
    assert work.sizes == [32, 2]


def test_work_that_fits_is_done_once():
    assert fit(8, 8, work := Limited(8)) == (8, 8, [])
    assert work.sizes == [8]


def test_one_image_that_does_not_fit_is_the_end():
    with pytest.raises(torch.OutOfMemoryError):
        fit(4, 4, work := Limited(0))
    assert work.sizes == [4, 2, 1]


def test_what_a_failed_attempt_held_is_free_before_the_next():
    fit(8, 8, work := Limited(2))
    assert work.alive == [0, 0, 0]


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (torch.distributed.DistBackendError("ncclUnhandledCudaError: ... Cuda failure 2 'out of memory'"), True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("shapes do not match"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_has_several_names(error, answer):
    assert is_out_of_memory(error) == answer


def test_the_host_s_allocator_has_a_name_of_its_own():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert is_out_of_memory(raised.value)


def test_other_errors_pass():
    with pytest.raises(KeyError):
        fit(8, 8, Limited(2, KeyError))
