"""A real head started by the test: a job is submitted, its log streamed, its exit code returned."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RAY = Path(sys.executable).parent / "ray"
START_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("auth") / "token"
    path.write_text("0123456789abcdef" * 4)
    return path


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, token: Path) -> Iterator[str]:
    """Dashboard address of a head with token authentication, ended by its own process group."""
    dashboard = free_port()
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    temporary = Path("/tmp") / f"ray-head-{os.getpid()}"  # sockets need a short path
    words = [
        str(RAY),
        "start",
        "--head",
        "--block",
        f"--port={free_port()}",
        "--num-cpus=8",
        f"--dashboard-port={dashboard}",
        f"--temp-dir={temporary}",
        "--include-dashboard=true",
        "--dashboard-agent-listen-port=0",
        "--disable-usage-stats",
    ]
    process = subprocess.Popen(
        words,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", dashboard)) == 0:
                    break
            time.sleep(0.5)
        assert process.poll() is None, "the head did not start"
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        process.terminate()  # it ends its own children; killed first, it would wait for them
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)


def submit(head: str, token: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "submit", "--address", head, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.ray
def test_a_submitted_stage_runs_there_and_its_output_and_exit_code_come_back(
    head: str, token: Path, tmp_path: Path
) -> None:
    recipe = "pipelines/demo/recipe.yaml"
    words = ["score", recipe, f"storage={tmp_path}", "name=job", "cluster.score_actors=1"]
    done = submit(head, token, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\[score\] \d+ rows", done.stdout), "the job's log is streamed"
    assert (tmp_path / "job" / "scores" / "_SUCCESS").is_file()
    # The same name with other settings is refused on the cluster, with the code it has here.
    taken = submit(head, token, *words, "seed=5")
    assert taken.returncode == 2
    assert "seed is 0 there and 5 now" in taken.stdout


@pytest.mark.ray
def test_a_wrong_token_is_refused_in_one_line(head: str, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("f" * 64)
    done = submit(head, wrong, "score", "pipelines/demo/recipe.yaml", f"storage={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot submit")
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_would_fail_there_is_refused_here(tmp_path: Path, token: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    recipe = "pipelines/demo/recipe.yaml"
    for words, said in (
        (["score", recipe], "storage 'runs' would vanish"),
        (["scroe", recipe, "storage=/x"], "stage 'scroe': one of"),
        (["score", "none.yaml", "storage=/x"], "inside the working directory"),
        (["score", recipe, "storage=/x", "train.epoch=1"], "did you mean train.epochs"),
        (["score", recipe, "storage=/x"], f"cannot submit to {nowhere}"),
    ):
        done = submit(nowhere, token, *words)
        assert done.returncode == 2, words
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
