"""What the fixtures promise. Each test runs pytest on a small test file of its own."""

import os
import stat


# grpc.health.v1.HealthCheckResponse with status SERVING, asked without generated stubs.
HEALTH = """
    def healthy(broker):
        check = broker.channel().unary_unary("/grpc.health.v1.Health/Check")
        return check(b"", timeout=20, wait_for_ready=True) == b"\\x08\\x01"
"""


def run(pytester, text, *arguments):
    pytester.makepyfile(HEALTH + text)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def numbers(path):
    return [int(line) for line in path.read_text().split()]


def test_a_test_talks_to_a_broker_that_serves(pytester):
    run(pytester, """
    def test_it(meshlog):
        assert meshlog.address.startswith("127.0.0.1:")
        assert healthy(meshlog)
    """).assert_outcomes(passed=1)


def test_every_test_has_a_broker_of_its_own_and_none_is_left(pytester):
    run(pytester, """
    import pytest

    @pytest.mark.parametrize("number", range(3))
    def test_it(meshlog, number):
        with open("pids", "a") as file:
            print(meshlog.pid, file=file)
        assert healthy(meshlog)
    """).assert_outcomes(passed=3)
    pids = numbers(pytester.path / "pids")
    assert len(set(pids)) == 3
    assert not any(map(is_alive, pids))


def test_the_broker_of_the_session_is_shared_on_disk_and_stopped_in_the_end(pytester):
    run(pytester, """
    def remember(broker):
        with open("pids", "a") as file:
            print(broker.pid, file=file)

    def test_one(meshlog_broker):
        remember(meshlog_broker)
        assert (meshlog_broker.log.parent / "data" / "meshlog.format").exists()

    def test_two(meshlog_broker):
        remember(meshlog_broker)
        assert healthy(meshlog_broker)
    """).assert_outcomes(passed=2)
    pids = numbers(pytester.path / "pids")
    assert len(pids) == 2 and len(set(pids)) == 1
    assert not is_alive(pids[0])


def test_a_failed_test_leaves_no_broker(pytester):
    run(pytester, """
    def test_it(meshlog):
        with open("pids", "a") as file:
            print(meshlog.pid, file=file)
        assert False
    """).assert_outcomes(failed=1)
    assert not any(map(is_alive, numbers(pytester.path / "pids")))


def test_with_xdist_every_worker_has_a_broker_of_its_own(pytester):
    run(pytester, """
    import os
    import pytest
    import time

    @pytest.mark.parametrize("number", range(8))
    def test_it(meshlog_broker, number):
        with open("pids-" + os.environ["PYTEST_XDIST_WORKER"], "a") as file:
            print(meshlog_broker.pid, file=file)
        assert healthy(meshlog_broker)
        time.sleep(0.2)
    """, "-n", "2").assert_outcomes(passed=8)
    workers = [set(numbers(path)) for path in pytester.path.glob("pids-*")]
    assert [len(pids) for pids in workers] == [1, 1]
    assert workers[0] != workers[1]
    assert not any(is_alive(pid) for pids in workers for pid in pids)


def test_a_channel_is_a_connection_of_its_own_and_closes_with_the_broker(pytester):
    run(pytester, """
    import grpc
    import pytest

    def test_it(meshlog):
        channel = meshlog.channel(**{"grpc.max_receive_message_length": 1})
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as failed:
            check(b"", timeout=20)
        assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert healthy(meshlog)
        meshlog.stop()
        meshlog.stop()
        assert not meshlog.is_running
        with pytest.raises(ValueError, match="closed channel"):
            check(b"")
    """).assert_outcomes(passed=1)


def test_without_a_binary_the_error_says_how_to_name_one(pytester, monkeypatch):
    monkeypatch.delenv("MESHLOG_BINARY", raising=False)
    monkeypatch.setenv("PATH", "")
    result = run(pytester, "\n    def test_it(meshlog):\n        pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no `meshlog` in PATH*--meshlog-binary PATH or MESHLOG_BINARY*"])


def test_a_wrong_binary_is_named_with_where_it_was_asked_for(pytester, monkeypatch):
    monkeypatch.setenv("MESHLOG_BINARY", "/nowhere/meshlog")
    result = run(pytester, "\n    def test_it(meshlog):\n        pass\n")
    result.stdout.fnmatch_lines(["*MESHLOG_BINARY is /nowhere/meshlog, which is no program*"])


def test_the_option_wins_over_the_environment(pytester, monkeypatch):
    binary = os.environ["MESHLOG_BINARY"]
    monkeypatch.setenv("MESHLOG_BINARY", "/nowhere/meshlog")
    run(pytester, "\n    def test_it(meshlog):\n        pass\n", "--meshlog-binary", binary).assert_outcomes(passed=1)


def test_a_broker_that_does_not_start_is_quoted(pytester):
    broken = pytester.path / "broken"
    broken.write_text("#!/bin/sh\necho 'the disk is on fire' >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    result = run(pytester, "\n    def test_it(meshlog):\n        pass\n", "--meshlog-binary", str(broken))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the broker did not start*", "*the disk is on fire*"])


def test_the_binary_is_found_in_the_path(pytester, monkeypatch):
    binary = os.environ["MESHLOG_BINARY"]
    monkeypatch.delenv("MESHLOG_BINARY")
    monkeypatch.setenv("PATH", os.path.dirname(binary), prepend=os.pathsep)
    run(pytester, "\n    def test_it(meshlog):\n        assert healthy(meshlog)\n").assert_outcomes(passed=1)
