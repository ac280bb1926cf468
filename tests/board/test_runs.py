from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hpa_search.board.events import EventFiles
from hpa_search.board.runs import TensorBoard
from hpa_search.search.leg import EpochReport, Leg


def test_a_trial_of_many_legs_is_one_run_of_one_file(make_search, tmp_path):
    """A file for each leg was read in the wrong order where legs were short: the tenth of a process before the ninth."""
    board = TensorBoard(EventFiles(tmp_path), make_search())
    for first, last in ((1, 1), (2, 3), *((epoch, epoch) for epoch in range(4, 13))):
        board.started(Leg(1, 7, {"loss": "bce", "learning_rate": 0.01}, first - 1, last))
        for epoch in range(first, last + 1):
            board.reported(7, EpochReport.of({"epoch": epoch, "objective": epoch / 10, "macro_f1": 0.5}))
        board.ended(7, "paused", "waits")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "0007")).Reload()
    assert set(events.Tags()["scalars"]) == {"objective", "validation/macro_f1", "best/objective", "best/macro_f1"}
    assert [event.step for event in events.Scalars("objective")] == list(range(1, 13))
    assert len(list((tmp_path / "tensorboard" / "0007").iterdir())) == 1
    assert events.Tags()["tensors"] == ["_hparams_/session_start_info", "parameters/text_summary"]


def test_an_epoch_can_be_read_as_soon_as_it_is_reported(make_search, tmp_path):
    board = TensorBoard(EventFiles(tmp_path), make_search())
    board.started(Leg(1, 0, {}, 0, 3))
    board.reported(0, EpochReport.of({"epoch": 1, "objective": 0.25}))
    events = EventAccumulator(str(tmp_path / "tensorboard" / "0000")).Reload()
    assert events.Scalars("objective")[0].value == 0.25


def test_a_trial_that_is_begun_again_before_its_first_epoch_counts_once(make_search, tmp_path):
    board = TensorBoard(EventFiles(tmp_path), make_search())
    for leg in (1, 2):
        board.started(Leg(leg, 0, {}, 0, 3))
    board.reported(0, EpochReport.of({"epoch": 1, "objective": 0.25}))
    events = EventAccumulator(str(tmp_path / "tensorboard" / "search")).Reload()
    assert [event.value for event in events.Scalars("search/trials_begun")] == [1]
