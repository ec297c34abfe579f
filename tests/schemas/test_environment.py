import pytest

from schemas.environment import Environment
from schemas.errors import ConfigurationError


def test_every_wrong_setting_is_named_at_once() -> None:
    read = Environment({"A_URL": "localhost:9092", "A_COUNT": "many", "A_LIMIT": "11", "A_OPTIONS": "x=1,y"})
    read.text("A_NAME")
    read.url("A_URL")
    read.integer("A_COUNT", 1, minimum=0, maximum=10)
    read.integer("A_LIMIT", 1, minimum=0, maximum=10)
    read.options("A_OPTIONS")

    with pytest.raises(ConfigurationError) as refused:
        read.refuse_problems()

    assert refused.value.problems == (
        "A_NAME is not set",
        "A_URL is not a URL of the form http://host:port",
        "A_COUNT='many' is not a whole number",
        "A_LIMIT=11 is not within 0 and 10",
        "A_OPTIONS: y is not key=value",
    )


def test_a_wrong_url_is_not_shown_for_it_may_hold_a_password() -> None:
    read = Environment({"A_URL": "ftp://user:secret@host"})
    read.url("A_URL")

    with pytest.raises(ConfigurationError) as refused:
        read.refuse_problems()

    assert "secret" not in str(refused.value)


def test_right_settings_pass() -> None:
    read = Environment({"A_URL": "http://u:p@h:1/db", "A_OPTIONS": "a.b=1, c=x=y"})

    assert read.url("A_URL") == "http://u:p@h:1/db"
    assert read.options("A_OPTIONS") == {"a.b": "1", "c": "x=y"}
    assert read.integer("UNSET", 5, minimum=1, maximum=9) == 5
    read.refuse_problems()
