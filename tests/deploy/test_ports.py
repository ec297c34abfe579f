import socket

from deploy.local.health import LOOPBACK
from deploy.local.ports import choose_port


def test_a_part_without_a_usual_port_is_given_one_that_another_stack_starting_now_will_hardly_choose() -> None:
    chosen = {choose_port("kafka", None, None, usual=None) for _ in range(20)}

    assert len(chosen) > 15


def test_the_port_of_the_last_start_is_kept_while_it_is_free() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert choose_port("kafka", None, remembered=port, usual=None) != port

    assert choose_port("kafka", None, remembered=port, usual=1) == port
