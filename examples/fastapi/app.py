"""A model behind FastAPI that says how it is: the application of the Gradient health-checks page, whole.

The model comes from S3 before the server listens, so `startup` passes once it is loaded; `readiness`
asks S3 each time; `liveness` asks nobody. No answer of S3, and no silence of it, holds up the event loop.
"""

import asyncio
import logging
import math
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import FastAPI, HTTPException, Response, status
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings

log = logging.getLogger("uvicorn.error")
S3_ERRORS = (BotoCoreError, ClientError, TimeoutError)


class Settings(BaseSettings):
    """From the environment. boto3 itself reads AWS_ENDPOINT_URL and the credentials there.

    `s3_timeout` is for the whole of one question to S3, in seconds; it must be shorter than the
    readiness check's own (`timeoutSeconds: 5`), or the check would time out before it is answered.
    """

    s3_bucket: str
    model_key: str = "iris.json"
    s3_timeout: float = Field(default=3.0, gt=0, lt=5)
    retry_after: float = Field(default=1.0, gt=0)


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
    probabilities: dict[str, float]


class ModelClass(BaseModel):
    bias: float
    weights: list[float]


class Model(BaseModel):
    """Softmax regression: for each class a bias and one weight per feature."""

    features: list[str]
    classes: dict[str, ModelClass]

    def probabilities(self, flower: Flower) -> dict[str, float]:
        values = [getattr(flower, feature) for feature in self.features]
        scores = {
            name: it.bias + sum(w * x for w, x in zip(it.weights, values, strict=True))
            for name, it in self.classes.items()
        }
        top = max(scores.values())
        powers = {name: math.exp(score - top) for name, score in scores.items()}
        return {name: round(power / sum(powers.values()), 4) for name, power in powers.items()}


class Bucket:
    """One S3 bucket, from asyncio: each call runs in a thread and is given up after `timeout` seconds.

    "Are you there?" has a thread of its own: uploads that hang never delay it, and one that hangs
    itself is not joined by a second, however often the check comes.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self._timeout = timeout
        self._asking = ThreadPoolExecutor(1, "s3-check")
        self._moving = ThreadPoolExecutor(8, "s3-objects")
        self._s3 = boto3.client(
            "s3",
            region_name="us-east-1",
            config=Config(
                connect_timeout=timeout / 2,
                read_timeout=timeout / 2,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )

    async def reachable(self) -> bool:
        try:
            await self._call(self._asking, self._s3.head_bucket, Bucket=self.name)
        except S3_ERRORS as error:
            log.warning("S3 check: %s", error or "no answer in time")
            return False
        return True

    async def read(self, key: str) -> bytes:
        def get() -> bytes:
            return self._s3.get_object(Bucket=self.name, Key=key)["Body"].read()

        return await self._call(self._moving, get)

    async def write(self, key: str, body: bytes) -> None:
        await self._call(self._moving, self._s3.put_object, Bucket=self.name, Key=key, Body=body)

    async def _call(self, pool: ThreadPoolExecutor, function: Any, **arguments: Any) -> Any:
        async with asyncio.timeout(self._timeout):
            return await asyncio.get_running_loop().run_in_executor(pool, lambda: function(**arguments))


class LoadStatus:
    """What has been loaded; empty until the lifespan below has filled it."""

    bucket: Bucket
    model: Model | None = None


load_status = LoadStatus()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """uvicorn answers SIGTERM only once it serves; while the model is fetched there is nothing to finish."""
    if threading.current_thread() is not threading.main_thread():
        yield  # in a test client: signals are not ours
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Fetch the model, for as long as it takes: whether that is too long is for the startup check to say."""
    with _ended_by_sigterm():
        settings = Settings()
        load_status.bucket = Bucket(settings.s3_bucket, settings.s3_timeout)
        log.info("fetching %s from the bucket %s", settings.model_key, settings.s3_bucket)
        while load_status.model is None:
            try:
                body = await load_status.bucket.read(settings.model_key)
            except S3_ERRORS as error:
                log.warning("no model yet: %s", error or "no answer in time")
                await asyncio.sleep(settings.retry_after)
            else:
                load_status.model = Model.model_validate_json(body)
    log.info("model loaded: %s", ", ".join(load_status.model.classes))
    yield


app = FastAPI(title="iris", lifespan=lifespan)


@app.get("/liveness/")
async def liveness_check() -> str:
    return "Liveness check succeeded."


@app.get("/readiness/")
async def readiness_check(response: Response) -> str:
    s3_successful = await load_status.bucket.reachable()
    if not s3_successful or load_status.model is None:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return "Readiness check failed."
    return "Readiness check succeeded."


@app.get("/startup/")
async def startup_check() -> str:
    return "Startup check succeeded."


@app.post("/predict/")
async def predict(flower: Flower) -> Prediction:
    """Say which iris it is, and keep the answer in the bucket."""
    if load_status.model is None:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, "the model is not loaded yet")
    probabilities = load_status.model.probabilities(flower)
    prediction = Prediction(
        key=f"predictions/{uuid.uuid4()}.json",
        flower=flower,
        species=max(probabilities, key=probabilities.__getitem__),
        probabilities=probabilities,
    )
    try:
        await load_status.bucket.write(prediction.key, prediction.model_dump_json().encode())
    except S3_ERRORS as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, "S3 does not take the result") from error
    return prediction
