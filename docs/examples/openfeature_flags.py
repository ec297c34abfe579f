import os

from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from serving_worker.openfeature_provider import TailraceProvider

api.set_provider(TailraceProvider.from_environment(os.environ, surface="home"))
flags = api.get_client()


def layout(user: str, country: str) -> str:
    return flags.get_string_value("layout", "list", EvaluationContext(user, {"country": country}))
