import pickle

from hpa_search.data.faults import LONGEST, SHOWN, DatasetFaults


def test_every_fault_is_kept_and_the_message_is_capped():
    error = DatasetFaults("DIR", [f"fault {index}" for index in range(SHOWN + 7)])
    assert len(error.faults) == SHOWN + 7
    assert str(error).startswith("DIR has 57 faults;")
    assert str(error).endswith("\n  ... and 7 more") and str(error).count("\n") == SHOWN + 1


def test_a_fault_is_one_printable_line_of_bounded_length():
    error = DatasetFaults("DIR", ["a\nb\udcff\x1b[31m", "x" * 10_000])
    assert error.faults[0] == "a\\nb\\udcff\\x1b[31m"
    assert len(error.faults[1]) == LONGEST
    assert str(error).encode("utf-8")


def test_it_reaches_another_process_whole():
    error = pickle.loads(pickle.dumps(DatasetFaults("DIR", ["one", "two"])))
    assert (error.where, error.faults) == ("DIR", ("one", "two")) and "two" in str(error)
