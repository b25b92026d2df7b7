"""One round of Flower's SecAgg+ on given vectors, in this process, as a peer to compare a secure sum with.

Flower's own server workflow and client mod run; only its transport is replaced, by a direct call from one to the other.
All sites are neighbours of each other, hold n shares and stay to the end. Masks of SecAgg+ come from a Mersenne Twister
whose seed is folded to 32 bits, so a time tells what that implementation costs and not what equal secrecy would cost.
"""

from __future__ import annotations

import copy
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PlatformError

CLIPPING_RANGE = 8.0
QUANTIZATION_RANGE = 2**22
STEP = 2 * CLIPPING_RANGE / QUANTIZATION_RANGE
# A coordinate is rounded up or down to a step, after an addition in float32 that is off by at most an eighth of one.
LARGEST_ERROR = 1.125 * STEP
# n words below 2^22 must sum to less than the modulus, 2^32.
MOST_SITES = 2**32 // QUANTIZATION_RANGE - 1
_REMEDY = "pip install 'wardround[bench]'"
_SERVER, _RUN, _TASK = 1, 1, 1


@dataclass(frozen=True, slots=True)
class FlowerRound:
    """What a round took and how exact it was.

    Attributes:
        version: of the installed flwr.
        milliseconds: wall time of one round, all sites and the server one after the other; median over the repeats.
        max_error: largest distance of a coordinate from the float64 mean of the vectors, over all repeats; at most
            1.125 * 2^-18, the step of 22 bits over [-8, 8] and the rounding of float32.
    """

    version: str
    milliseconds: float
    max_error: float


def measure_flower(vectors: Sequence[NDArray[np.float32]], *, threshold: int, repeats: int = 1) -> FlowerRound:
    """Time SecAgg+ rounds from the server's first message to the aggregate, every site with the same weight.

    In the time: key agreement, sharing, quantisation, masks, numpy serialisation of masked vectors, unmasking. Not in
    it: network, TLS, Flower's wire codec, processes, training, turning a vector into Flower's ``Parameters`` and the
    aggregate back, one short round to warm up. Each round begins with fresh keys. Flower's log is silent meanwhile;
    its rounding and its graph draw from the global generators of numpy and ``random``.

    Args:
        vectors: one per site, 3..1023 of them, float32, all of one shape (d,), d >= 1, values in [-8, 8].
        threshold: shares that recover a secret, 2..n-1.
        repeats: rounds that are timed, >= 1.

    Raises:
        PlatformError: flwr is missing or incomplete, an argument is out of its range, Flower gave up, or its aggregate
            is not the mean of the vectors.
    """
    _check(vectors, threshold, repeats)
    flwr = _load()
    mean = np.mean(np.asarray(vectors, dtype=np.float64), axis=0)
    times, errors = [], []
    with _server_process(flwr):
        _round(flwr, [vector[:1] for vector in vectors[:3]], 2)
        for _ in range(repeats):
            seconds, aggregate = _round(flwr, vectors, threshold)
            times.append(seconds)
            errors.append(float(np.abs(aggregate - mean).max()))
    version = str(flwr.__version__)
    # Written so that a NaN is refused too.
    if not max(errors) <= LARGEST_ERROR or not np.isfinite(errors).all():
        raise PlatformError(
            f"the aggregate is {max(errors):.3g} away from the mean; at most {LARGEST_ERROR:.3g} is quantisation",
            where=f"SecAgg+ of flwr {version}",
            remedy=_REMEDY,
        )
    return FlowerRound(version=version, milliseconds=statistics.median(times) * 1e3, max_error=max(errors))


def _check(vectors: Sequence[NDArray[np.float32]], threshold: int, repeats: int) -> None:
    n = len(vectors)
    if not 3 <= n <= MOST_SITES or not 2 <= threshold < n or repeats < 1:
        raise PlatformError(
            f"cannot run SecAgg+ with {n} sites and threshold {threshold} {repeats} times",
            remedy=f"use 3 to {MOST_SITES} sites, a threshold from 2 to one less than sites, and at least 1 repeat",
        )
    for number, vector in enumerate(vectors):
        if vector.dtype != np.float32 or vector.ndim != 1 or not vector.size or vector.shape != vectors[0].shape:
            raise PlatformError(
                f"a vector has type {vector.dtype} and shape {vector.shape}",
                where=f"site {number}",
                remedy="use float32 vectors of one shape (d,), d >= 1",
            )
        if not (np.abs(vector) <= CLIPPING_RANGE).all():
            raise PlatformError(
                "a coordinate is not a number or would be clipped",
                where=f"site {number}",
                remedy=f"use values in [-{CLIPPING_RANGE}, {CLIPPING_RANGE}]",
            )


def _load() -> Any:
    """The package with the sub-modules that a round uses; imported here because few installations have it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about what Flower imports in its turn
            import flwr
            import flwr.app
            import flwr.client.mod
            import flwr.common
            import flwr.compat.common.recorddict_compat
            import flwr.server
            import flwr.server.workflow.constant
            import flwr.supercore.task_identity
    except ImportError as error:
        raise PlatformError(f"Flower cannot be imported: {error}", where="package flwr", remedy=_REMEDY) from error
    return flwr


@contextmanager
def _server_process(flwr: Any) -> Iterator[None]:
    """What a Flower server's process has on and this one has not: an identity that messages take their sender from.

    The log is silent inside. Both are put back as they were.
    """
    logger = logging.getLogger("flwr")
    identity = flwr.supercore.task_identity.TaskIdentity
    names = ("run_id", "node_id", "task_id")
    level = logger.level
    before = {name: getattr(identity, f"_{name}") for name in names}  # the public ones raise while unset
    logger.setLevel(logging.CRITICAL + 1)
    try:
        identity.run_id, identity.node_id, identity.task_id = _RUN, _SERVER, _TASK
        yield
    finally:
        logger.setLevel(level)
        for name in names:
            setattr(identity, name, before[name])


def _round(flwr: Any, vectors: Sequence[NDArray[np.float32]], threshold: int) -> tuple[float, NDArray[np.float64]]:
    """(seconds, aggregate of shape (d,)) of one round with new keys."""
    sites = {number: _site(flwr, number, vector) for number, vector in enumerate(vectors, start=_SERVER + 1)}
    constant = flwr.server.workflow.constant
    context = flwr.server.LegacyContext(
        _context(flwr, _SERVER), strategy=_Everyone([_Proxy(number) for number in sites], flwr.common.FitIns)
    )
    records = context.state
    records.config_records[constant.MAIN_CONFIGS_RECORD] = flwr.app.ConfigRecord({constant.Key.CURRENT_ROUND: 1})
    records.array_records[constant.MAIN_PARAMS_RECORD] = flwr.app.ArrayRecord()
    workflow = flwr.server.workflow.SecAggPlusWorkflow(
        len(vectors),
        threshold,
        max_weight=1.0,  # the weight of every site, so that nothing of the range is lost to weighting
        clipping_range=CLIPPING_RANGE,
        quantization_range=QUANTIZATION_RANGE,
    )
    grid = _Grid(sites)
    began = time.perf_counter()
    workflow(grid, context)
    seconds = time.perf_counter() - began
    arrays = records.array_records[constant.MAIN_PARAMS_RECORD]
    if not arrays:  # a halted workflow only writes to its log
        raise PlatformError("the round was given up", where=f"SecAgg+ of flwr {flwr.__version__}", remedy=_REMEDY)
    parameters = flwr.compat.common.recorddict_compat.arrayrecord_to_parameters(arrays, keep_input=True)
    (aggregate,) = flwr.common.parameters_to_ndarrays(parameters)
    return seconds, aggregate


def _context(flwr: Any, node: int) -> Any:
    return flwr.app.Context(run_id=_RUN, node_id=node, node_config={}, state=flwr.app.RecordDict(), run_config={})


def _site(flwr: Any, number: int, vector: NDArray[np.float32]) -> Callable[[Any], Any]:
    """Answers the server's messages; keys and shares stay in a context of its own from stage to stage."""
    common, context = flwr.common, _context(flwr, number)
    trained = common.FitRes(
        common.Status(common.Code.OK, ""), common.ndarrays_to_parameters([vector]), num_examples=1, metrics={}
    )
    content = flwr.compat.common.recorddict_compat.fitres_to_recorddict(trained, keep_input=True)

    def train(message: Any, _: Any) -> Any:
        return flwr.app.Message(content, reply_to=message)

    return lambda message: flwr.client.mod.secaggplus_mod(message, context, train)


@dataclass(frozen=True, slots=True)
class _Proxy:
    """All that the workflow wants to know of a client."""

    node_id: int


@dataclass(frozen=True, slots=True)
class _Everyone:
    """The strategy: all sites take part, and the secure aggregate is the result.

    FedAvg in its place would average n copies of the aggregate, which is no part of the protocol.
    """

    proxies: list[_Proxy]
    instruction: Callable[[Any, dict[str, Any]], Any]

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[tuple[_Proxy, Any]]:
        return [(proxy, self.instruction(parameters, {})) for proxy in self.proxies]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> tuple[Any, dict[str, Any]]:
        # Every result carries the one aggregate.
        return results[0][1].parameters, {}


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where Flower would send messages over the network, calls the sites in turn; their exceptions pass through."""

    sites: Mapping[int, Callable[[Any], Any]]

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        replies = []
        for message in messages:
            # The server sends one content to all in its first stage, and a client takes entries out of what it gets.
            message.content = copy.deepcopy(message.content)
            replies.append(self.sites[message.metadata.dst_node_id](message))
        return replies
