"""Who asks: user and password from basic authentication, ClickHouse's headers or URL arguments, in ClickHouse's order.

Passwords are compared in constant time and appear in no message.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping

from deploy.local.warehouse_server.errors import AUTHENTICATION_FAILED, REQUIRED_PASSWORD, refusal


def authenticated(headers: Mapping[str, str], arguments: Mapping[str, str], passwords: Mapping[str, str]) -> str:
    """The user. Raises ServerError 194 where no credentials came, 516 where they are wrong; says neither which part."""
    user, password = _credentials(headers, arguments)
    if not user:
        raise refusal(
            REQUIRED_PASSWORD,
            "Authentication is required: send a user and a password, as basic authentication or as URL arguments.",
        )
    expected = passwords.get(user)
    matches = hmac.compare_digest(password.encode(), (expected or "\0").encode())
    if expected is None or not matches:
        raise refusal(
            AUTHENTICATION_FAILED, f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
        )
    return user


def _credentials(headers: Mapping[str, str], arguments: Mapping[str, str]) -> tuple[str, str]:
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return headers.get("x-clickhouse-user", ""), headers.get("x-clickhouse-key", "")
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return _basic(encoded)
    return arguments.get("user", ""), arguments.get("password", "")


def _basic(encoded: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise refusal(AUTHENTICATION_FAILED, "The Authorization header is not base64 of user:password.") from None
    return user, password
