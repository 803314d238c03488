"""`python -m benchmarks.grpc_load ADDRESS MODEL CALLS SECONDS`: so many Predictions calls in flight over one
channel; one line of JSON at the end, as of post.lua. The variable BODY is the body."""

import asyncio
import json
import os
import sys
import time

import grpc

from gateway.grpc.messages.inference_pb2 import PredictionResponse, PredictionsRequest

METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


async def run(address: str, model: str, calls: int, seconds: float) -> tuple[list[float], int, float]:
    """(seconds of each good answer, errors, seconds that it took)."""
    request = PredictionsRequest(model_name=model, input={"data": os.environ["BODY"].encode()})
    times: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(
            METHOD, PredictionsRequest.SerializeToString, PredictionResponse.FromString
        )
        began = time.perf_counter()
        errors = await asyncio.gather(*(_caller(call, request, began + seconds, times) for _ in range(calls)))
        return times, sum(errors), time.perf_counter() - began


async def _caller(
    call: grpc.aio.UnaryUnaryMultiCallable[PredictionsRequest, PredictionResponse],
    request: PredictionsRequest,
    end: float,
    times: list[float],
) -> int:
    """One call after the other; returns how many failed."""
    errors = 0
    while (began := time.perf_counter()) < end:
        try:
            answer = await call(request)
        except grpc.aio.AioRpcError:
            errors += 1
            continue
        errors += answer.prediction != b"OK"
        times.append(time.perf_counter() - began)
    return errors


def main() -> None:
    address, model, calls, seconds = sys.argv[1:]
    times, errors, took = asyncio.run(run(address, model, int(calls), float(seconds)))
    times.sort()
    p50, p99 = (times[int(len(times) * share)] * 1e6 if times else 0.0 for share in (0.50, 0.99))
    print(
        json.dumps(
            {
                "requests": len(times),
                "duration": took * 1e6,
                "p50": p50,
                "p99": p99,
                "status_errors": errors,
                "socket_errors": 0,
            }
        )
    )


if __name__ == "__main__":
    main()
