"""The application of the Gradient health-checks page in a container, on Debian 12's FastAPI and pydantic 1.

The model comes from S3 in a startup hook, before the server listens: `startup` passes once it is loaded.
`readiness` asks S3 each time; `liveness` asks nobody, and can be told to fail: PUT /liveness/?alive=false.
"""

import asyncio
import json
import logging
import os
import signal
import uuid

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session
from fastapi import FastAPI, HTTPException, Response, status
from pydantic import BaseModel, BaseSettings, Field
from starlette.concurrency import run_in_threadpool

log = logging.getLogger("uvicorn.error")
S3_ERRORS = (BotoCoreError, ClientError)


class Settings(BaseSettings):
    """From the environment. botocore itself reads the credentials there."""

    s3_endpoint: str
    s3_bucket: str
    model_key: str = "iris.json"
    version: str = "1"


class LoadStatus(BaseSettings):
    """How the app is, for its checks."""

    model_loaded: bool = False
    alive: bool = True


class Flower(BaseModel):
    """What /predict/ takes: four lengths in cm."""

    sepal_length: float = Field(gt=0, le=30)
    sepal_width: float = Field(gt=0, le=30)
    petal_length: float = Field(gt=0, le=30)
    petal_width: float = Field(gt=0, le=30)


class Prediction(BaseModel):
    """What /predict/ answers, and what it leaves in the bucket under `key`."""

    key: str
    flower: Flower
    species: str
    version: str


settings = Settings()
load_status = LoadStatus()
model: dict = {}
s3 = get_session().create_client(
    "s3",
    endpoint_url=settings.s3_endpoint,
    region_name="us-east-1",
    # Shorter than the readiness check's own timeout, or that would end before there is an answer.
    config=Config(
        connect_timeout=2,
        read_timeout=2,
        retries={"total_max_attempts": 1},
        max_pool_connections=40,  # one for each thread that serves a request
        s3={"addressing_style": "path"},
    ),
)
app = FastAPI(title="iris")


@app.on_event("startup")
async def model_load() -> None:
    """Fetch the model, for as long as it takes: whether that is too long is for the startup check to say."""
    # uvicorn hears SIGTERM only once it serves; until then there is nothing to finish.
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while not load_status.model_loaded:
        try:
            model.update(json.loads(await run_in_threadpool(read, settings.model_key)))
            load_status.model_loaded = True
        except S3_ERRORS as error:
            log.warning("no model yet: %s", error)
            await asyncio.sleep(1)
    signal.signal(signal.SIGTERM, before)
    log.info("model loaded: %s", ", ".join(model["classes"]))


@app.get("/liveness/", status_code=200)
def liveness_check(response: Response) -> str:
    if not load_status.alive:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return "Liveness check failed."
    return "Liveness check succeeded."


@app.put("/liveness/", status_code=204)
def set_liveness(alive: bool) -> Response:
    load_status.alive = alive
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@app.get("/readiness/", status_code=200)
def readiness_check(response: Response) -> str:
    if not s3_successful() or not load_status.model_loaded:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return "Readiness check failed."
    return "Readiness check succeeded."


@app.get("/startup/", status_code=200)
def startup_check() -> str:
    return "Startup check succeeded."


@app.post("/predict/")
def predict(flower: Flower) -> Prediction:
    """Say which iris it is, and keep the answer in the bucket."""
    prediction = Prediction(
        key=f"predictions/{uuid.uuid4()}.json",
        flower=flower,
        species=max(model["classes"], key=lambda name: score(name, flower)),
        version=settings.version,
    )
    try:
        s3.put_object(Bucket=settings.s3_bucket, Key=prediction.key, Body=prediction.json().encode())
    except S3_ERRORS as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, "S3 does not take the result") from error
    return prediction


def score(name: str, flower: Flower) -> float:
    """How much the flower is one of that class; the highest wins."""
    weights = model["classes"][name]["weights"]
    values = [getattr(flower, feature) for feature in model["features"]]
    return model["classes"][name]["bias"] + sum(w * x for w, x in zip(weights, values, strict=True))


def s3_successful() -> bool:
    try:
        s3.head_bucket(Bucket=settings.s3_bucket)
    except S3_ERRORS as error:
        log.warning("S3 check: %s", error)
        return False
    return True


def read(key: str) -> bytes:
    return s3.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read()
