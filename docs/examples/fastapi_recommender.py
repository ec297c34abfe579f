import os

from fastapi import FastAPI

from serving_worker.embedding import Tailrace

tailrace = Tailrace.from_environment(os.environ)
app = FastAPI(lifespan=tailrace.lifespan)
SHELVES = {"popularity": ["a", "b", "c"], "newest": ["c", "b", "a"]}  # your own recommender


@app.get("/home/{user}")
async def home(user: str) -> list[str]:
    turn = tailrace.turn(user, "home")
    items = SHELVES[turn.policy_id]
    tailrace.served(turn, items)
    return items
