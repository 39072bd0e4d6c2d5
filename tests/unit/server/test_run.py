import math
import os
import socket
import subprocess
import sys

import pytest

from flip_reward import FlipReward, ScriptedEngine
from flip_reward.server.app import create_app
from flip_reward.server.run import make_server, share
from flip_reward.server.settings import ServerSettings


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "httptools", "prometheus_client"])
def test_a_missing_library_is_named_with_its_extra(module: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['flip-reward', 'serve', '--model', 'scripted']\n"
        "from flip_reward.cli.app import main; main()"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert 'pip install "flip-reward[serve]"' in finished.stderr
    assert module in finished.stderr


def test_the_command_loads_nothing_of_the_server_before_it_serves() -> None:
    program = (
        "import flip_reward.cli.commands.serve, sys\n"
        "print(*({'starlette', 'uvicorn', 'prometheus_client'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""


def test_workers_have_the_copies_of_a_socket_between_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        alone, one_of_two, one_of_many = (share(listener.dup(), workers) for workers in (1, 2, 100))
        for copy in (*alone, *one_of_two, *one_of_many):
            copy.close()
    assert len(alone) == 2 * len(one_of_two)
    assert len(one_of_many) == 1


def test_a_worker_that_starts_makes_no_other_wait_for_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as of_others, of_others.dup() as listener:
        of_others.setblocking(False)
        for copy in share(listener)[1:]:
            assert not os.get_blocking(of_others.fileno())
            copy.close()


def test_requests_in_flight_may_be_given_any_time_to_finish() -> None:
    settings = ServerSettings(drain_seconds=math.inf)
    app = create_app(FlipReward(ScriptedEngine()), settings)
    assert make_server(app, settings).config.timeout_graceful_shutdown is None
