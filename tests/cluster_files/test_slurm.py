"""The Slurm script runs, under stand-ins for Slurm, for Ray and for the search; one slow test has the real Ray and search."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster_files.places import ROOT, SBATCH, parse_command

pytestmark = pytest.mark.long

STAND_INS = Path(__file__).parent / "stand_ins"
ARGUMENTS = ["space file.yaml", "--data", "/shared/hpa", "--out", "/shared/first"]
SEARCH = """
name: queued
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}}
budget: {trials: 20}
scheduler: {kind: promotion, min_epochs: 1, max_epochs: 2, eta: 3}
final: {onnx: false}
resources: {slots: 1, cpus: 1, gpus: 0}
"""


class Job:
    """The script as Slurm would run it: on the first node, in a process group of its own."""

    def __init__(self, folder, arguments, paths, script=SBATCH, **environment):
        self.state, self._log = folder / "state", folder / "log"
        self.state.mkdir(exist_ok=True)
        self.number = os.getpid()  # ports and folders follow from it, so that tests that run beside each other do not meet
        self.ray_folder = Path(f"/tmp/ray-{os.getuid()}-{self.number}")
        self.environment = {
            "PATH": os.pathsep.join([*map(str, paths), os.environ["PATH"]]),
            "SLURM_JOB_ID": str(self.number),
            "SLURM_CPUS_PER_TASK": "2",
            "STAND_IN_LOG": str(self._log),
            "STAND_IN_STATE": str(self.state),
            **environment,
        }
        self.process = subprocess.Popen(
            ["bash", script, *map(str, arguments)],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def tell(self, number):
        """What `#SBATCH --signal=B:` does: the signal goes to the script alone."""
        self.process.send_signal(number)

    def wait_for(self, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"ended with {self.process.returncode}, or too slow: {self.process.communicate()[0]}")
            time.sleep(0.1)

    def end(self, seconds=40):
        """Return the exit code, and what was said; nothing of the job is left."""
        said, _ = self.process.communicate(timeout=seconds)
        _, alive = psutil.wait_procs(self._processes(), timeout=5)
        assert [process.cmdline() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        return self.process.returncode, said

    def _processes(self):
        """Every process of the script's session, whoever is its parent now, and of Ray's that names the job's folder."""

        def is_of_it(process):
            try:
                ours = os.getsid(process.pid) == self.process.pid or f"{self.ray_folder}/" in " ".join(process.cmdline())
                return ours and process.status() != psutil.STATUS_ZOMBIE
            except (OSError, psutil.Error):
                return False

        return [process for process in psutil.process_iter() if is_of_it(process)]

    def kill(self):
        for process in self._processes():
            process.kill()

    def log(self):
        return self._log.read_text().splitlines()

    def environment_of(self, name):
        lines = (self.state / f"{name}.environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def lines(self, start):
        return [line for line in self.log() if line.startswith(start)]


@pytest.fixture
def submit(tmp_path):
    jobs = []

    def start(nodes="localhost,localhost.localdomain", arguments=ARGUMENTS, **environment):
        paths = [STAND_INS / "slurm", STAND_INS / "search"]
        jobs.append(Job(tmp_path, arguments, paths, SLURM_JOB_NODELIST=nodes, **environment))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


def position(log, start):
    return next(index for index, line in enumerate(log) if line.startswith(start))


def option(line, name):
    return re.search(rf"--{name}=(\S+)", line)[1]


def test_head_then_workers_then_the_search(submit):
    job = submit(STAND_IN_CODE="0", SLURM_GPUS_ON_NODE="4", STAND_IN_GPUS_ELSEWHERE="3")
    assert job.end()[0] == 0
    log = job.log()
    order = [position(log, start) for start in ("ray start --head", "srun", "ray start --num", "hpa-search")]
    assert order == sorted(order)
    head, worker = job.lines("ray start --head")[0], job.lines("ray start --num")[0]
    address = f"{option(head, 'node-ip-address')}:{option(head, 'port')}"
    assert not address.startswith("127.") and 20000 <= int(option(head, "port")) < 32768 - 4
    assert option(worker, "address") == job.environment_of("driver")["RAY_ADDRESS"] == address
    assert (option(head, "num-cpus"), option(head, "num-gpus"), option(worker, "num-gpus")) == ("2", "4", "3")
    assert option(head, "temp-dir") == option(worker, "temp-dir") and len(option(head, "temp-dir")) < 40
    assert job.lines("hpa-search") == [f"hpa-search run {' '.join(ARGUMENTS)} --ray auto"]
    assert {"ended head"} < set(job.lines("ended")) and len(job.lines("ended")) == 2


def test_what_the_driver_is_given_is_what_run_takes(submit):
    job = submit("localhost", ["space.yaml", "--data", "/d", "--out", "/o"], STAND_IN_CODE="0")
    job.end()
    parse_command(job.lines("hpa-search")[0])


def test_the_token_is_the_jobs_and_on_no_command_line(submit):
    job = submit(STAND_IN_CODE="0")
    _, said = job.end()
    (worker,) = (path.stem for path in job.state.glob("worker-*.environment"))
    tokens = {job.environment_of(name)["RAY_AUTH_TOKEN"] for name in ("head", worker, "driver")}
    (token,) = tokens
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    assert token not in said and not any(token in line for line in job.log())
    assert {job.environment_of(name)["RAY_AUTH_MODE"] for name in ("head", worker, "driver")} == {"token"}


@pytest.mark.parametrize("code", [2, 3, 130])
def test_the_searchs_exit_code_is_the_jobs_and_nothing_is_requeued(submit, code):
    job = submit("localhost", STAND_IN_CODE=str(code))
    assert job.end()[0] == code
    assert job.lines("hpa-search") and not job.lines("scontrol requeue") and not job.lines("srun")


def test_when_the_time_is_nearly_up_the_search_ends_and_goes_on_later(submit):
    job = submit()
    job.wait_for((job.state / "driver.up").exists)
    job.tell(signal.SIGUSR1)
    code, said = job.end()
    assert code == 130 and "resumes when Slurm starts this job again" in said
    log = job.log()
    assert log[-1] == f"scontrol requeue {job.number}"  # after everything has ended
    assert position(log, "driver told") < position(log, "ended")
    assert job.lines("driver told") == ["driver told"]


def test_a_search_that_finishes_just_then_is_not_started_again(submit):
    job = submit("localhost", STAND_IN_STOP_CODE="0")
    job.wait_for((job.state / "driver.up").exists)
    job.tell(signal.SIGUSR1)
    assert job.end()[0] == 0
    assert not job.lines("scontrol requeue")


def test_a_driver_that_does_not_end_is_killed_and_the_search_goes_on_later(submit, tmp_path):
    script = tmp_path / "search.sbatch"
    script.write_text(SBATCH.read_text().replace("GRACE_SECONDS=100", "GRACE_SECONDS=1"))
    job = submit("localhost", script=script, STAND_IN_STUBBORN="1")
    job.wait_for((job.state / "driver.up").exists)
    job.tell(signal.SIGUSR1)
    assert job.end()[0] == 128 + signal.SIGKILL
    assert job.lines("scontrol requeue")


def test_scancel_ends_it_for_good(submit):
    job = submit()
    job.wait_for((job.state / "driver.up").exists)
    job.tell(signal.SIGTERM)
    assert job.end()[0] == 130
    assert not job.lines("scontrol requeue") and len(job.lines("ended")) == 2


def test_scancel_while_it_ends_for_its_time_is_heeded(submit):
    job = submit("localhost", STAND_IN_LAST_SECONDS="2")
    job.wait_for((job.state / "driver.up").exists)
    job.tell(signal.SIGUSR1)
    job.wait_for(lambda: job.lines("driver told"))
    job.tell(signal.SIGTERM)
    assert job.end()[0] == 130
    assert not job.lines("scontrol requeue") and len(job.lines("driver told")) == 1


def test_scancel_before_the_search_has_begun_leaves_nothing(submit):
    job = submit()
    job.wait_for(lambda: job._log.exists() and job.lines("ray start --head"))
    job.tell(signal.SIGTERM)
    code, _ = job.end()
    assert code not in (0, 130) and not job.lines("hpa-search") and not job.lines("scontrol requeue")


def test_a_head_that_does_not_start_is_said_so(submit):
    job = submit(STAND_IN_HEAD_FAILS="1")
    code, said = job.end()
    assert code == 1 and "Ray's head did not start on localhost" in said
    assert not job.lines("hpa-search") and not job.lines("ray start --num")


def test_without_a_search_file_its_use_is_shown(submit):
    code, said = submit(arguments=[]).end()
    assert code == 2 and said.startswith("usage: sbatch")


def test_there_is_time_for_a_clean_end():
    """The signal comes early enough for the search's own time and for Ray's."""
    text = SBATCH.read_text()
    (before,) = re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", text, re.MULTILINE)
    needed = sum(int(seconds) for seconds in re.findall(r"^readonly (?:GRACE|CLOSING)_SECONDS=(\d+)", text, re.MULTILINE))
    assert int(before) >= needed + 30 and needed > 60
    assert "#SBATCH --requeue" in text and "#SBATCH --open-mode=append" in text


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_search_goes_on_after_its_time_was_up(tmp_path):
    (tmp_path / "search.yaml").write_text(SEARCH)
    here = Path(sys.executable).parent
    phantom = ["data", "phantom", tmp_path / "data", "--images", 80, "--test-images", 4, "--size", 32, "--lift", 4]
    arguments = [tmp_path / "search.yaml", "--data", tmp_path / "data", "--out", tmp_path / "out"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_NODELIST": "localhost",
        "OMP_NUM_THREADS": "1",
        "HPA_SEARCH_CACHE": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-m", "hpa_search.cli", *map(str, phantom)]
    subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=120)
    first = Job(tmp_path, arguments, [here, STAND_INS / "slurm"], **environment)
    try:
        first.wait_for(lambda: list(tmp_path.glob("out/trials/*/metrics.csv")), 150)
        first.tell(signal.SIGUSR1)
        code, said = first.end(120)
        assert code == 130 and first.lines("scontrol requeue"), said
        assert not (tmp_path / "out" / "result.json").exists()
        again = Job(tmp_path, arguments, [here, STAND_INS / "slurm"], **environment)
        code, said = again.end(200)
        assert code == 0 and (tmp_path / "out" / "result.json").is_file(), said
        assert not again.ray_folder.exists()
    finally:
        first.kill()
