import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import api_pb2, metadata

from hpa_search.board.events import EventFiles
from hpa_search.board.runs import TensorBoard
from hpa_search.board.tags import of_scalars
from hpa_search.ledger.ledger import TrialRecord
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.storage.opened import opened


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


def statuses(folder):
    """Return the statuses of a run's row, in the order in which TensorBoard reads its files."""
    found = []
    for path in sorted(folder.iterdir()):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == metadata.SESSION_END_INFO_TAG:
                    found.append(metadata.parse_session_end_info_plugin_data(value.metadata.plugin_data.content).status)
    return found


def test_a_trial_that_goes_on_after_its_end_has_not_ended(make_search, tmp_path):
    """Of several ends TensorBoard takes the first, so an extended search showed its trials as ended as before."""
    board = TensorBoard(EventFiles(tmp_path), make_search())
    board.started(Leg(1, 7, {}, 0, 1))
    board.reported(7, EpochReport.of({"epoch": 1, "objective": 0.1}))
    board.ended(7, "pruned", "the budget is used up")
    folder = tmp_path / "tensorboard" / "0007"
    assert statuses(folder) == [api_pb2.STATUS_SUCCESS]
    later = TensorBoard(EventFiles(tmp_path), make_search())
    later.ended(7, "paused", "waits at epoch 1 again")
    assert statuses(folder) == []
    later.started(Leg(1, 7, {}, 1, 3))
    later.reported(7, EpochReport.of({"epoch": 2, "objective": 0.2}))
    later.ended(7, "failed", "it raised")
    assert statuses(folder) == [api_pb2.STATUS_FAILURE]
    assert [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("objective")] == [1, 2]


def test_what_is_drawn_after_a_trials_end_reaches_a_reader_that_has_seen_the_end(make_search, tmp_path):
    events = EventFiles(tmp_path)
    board = TensorBoard(events, make_search())
    board.started(Leg(1, 7, {}, 0, 1))
    board.ended(7, "complete", "trained to the end")
    reader = EventAccumulator(str(tmp_path / "tensorboard" / "0007")).Reload()
    events.write("0007", of_scalars({"drawn": 1.0}), step=1)
    assert reader.Reload().Scalars("drawn")[0].value == 1


def test_the_share_of_the_slots_time_in_training_is_that_of_all_epochs_so_far(make_search, tmp_path):
    board = TensorBoard(EventFiles(tmp_path), make_search())
    board.started(Leg(1, 0, {}, 0, 2))
    timed = {"objective": 0.5, "seconds": 8.0, "data_seconds": 1.0, "evaluate_seconds": 1.0, "checkpoint_seconds": 1.0}
    board.reported(0, EpochReport.of({"epoch": 1, **timed, "waiting_seconds": 1.0, "start_seconds": 2.0}))
    board.reported(0, EpochReport.of({"epoch": 2, **timed}))
    folder = tmp_path / "tensorboard"
    shares = EventAccumulator(str(folder / "search")).Reload().Scalars("search/share_of_slot_time_in_training")
    assert [round(share.value, 4) for share in shares] == [round(6 / 12, 4), round(12 / 21, 4)]
    of_trial = EventAccumulator(str(folder / "0000")).Reload()
    assert [event.value for event in of_trial.Scalars("system/seconds/start")] == [2.0]


def record(number, end):
    return TrialRecord(number, {}, 1, {1: 0.1}, end, end)


def told_ends(folder):
    """Return the statuses of all trials that a TensorBoard reads in ``folder``."""
    return {path.name: statuses(path) for path in sorted((folder / "tensorboard").glob("[0-9]*"))}


@pytest.mark.long
def test_in_an_object_store_an_extended_search_takes_ends_back_and_writes_none_twice(make_search, bucket, tmp_path):
    with opened(bucket / "out", tmp_path / "one") as work:
        board = TensorBoard(EventFiles(work), make_search())
        board.resumed([], lambda: 0.0)
        for number in range(3):
            board.started(Leg(number, number, {}, 0, 1))
            board.reported(number, EpochReport.of({"epoch": 1, "objective": 0.1}))
            board.ended(number, "pruned", "the budget is used up")
        work.push()
    with opened(bucket / "out", tmp_path / "two") as work:
        board = TensorBoard(EventFiles(work), make_search())
        board.resumed([record(0, "pruned"), record(1, "pruned"), record(2, None)], lambda: 0.0)
        board.ended(1, "paused", "waits at epoch 1 again")
        work.push()
    with opened(bucket / "out", tmp_path / "three") as work:
        work.fetch("tensorboard/*")
        assert told_ends(work.folder) == {"0000": [api_pb2.STATUS_SUCCESS], "0001": [], "0002": []}
        assert len(list((work.folder / "tensorboard/search").iterdir())) == 1


def test_a_kill_between_the_ledger_and_tensorboard_is_made_good(make_search, tmp_path):
    board = TensorBoard(EventFiles(tmp_path), make_search())
    for number in range(2):
        board.started(Leg(number, number, {}, 0, 1))
    board.ended(0, "pruned", "the budget is used up")
    later = TensorBoard(EventFiles(tmp_path), make_search())
    later.resumed([record(0, None), record(1, "failed")], lambda: 0.0)
    assert told_ends(tmp_path) == {"0000": [], "0001": [api_pb2.STATUS_FAILURE]}


def test_a_reader_that_has_seen_the_end_sees_what_comes_after_it_was_taken_back(make_search, tmp_path):
    board = TensorBoard(EventFiles(tmp_path), make_search())
    board.started(Leg(1, 7, {}, 0, 1))
    board.reported(7, EpochReport.of({"epoch": 1, "objective": 0.1}))
    board.ended(7, "pruned", "the budget is used up")
    reader = EventAccumulator(str(tmp_path / "tensorboard" / "0007")).Reload()
    board.ended(7, "paused", "waits at epoch 1 again")
    board.started(Leg(2, 7, {}, 1, 2))
    board.reported(7, EpochReport.of({"epoch": 2, "objective": 0.2}))
    assert [event.step for event in reader.Reload().Scalars("objective")] == [1, 2]
