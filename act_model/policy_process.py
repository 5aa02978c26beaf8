"""A policy in a process of its own: one that is killed, hangs or runs out of memory stops alone.

    predict --arrays--> shared memory --> process --> shared memory --actions-->

Arrays and actions go through memory that both processes share, everything else is a line of JSON
through a pipe. The process ends with whoever started it.

Shape suffixes: K action chunk, A action dim, P prefix.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import ActError, DataError, InputError
from act_data.records import StatsRecord
from act_model import checkpoint as checkpoints
from act_model import runtime as runtimes
from act_model.config import Contract
from act_model.contract import blank_observation, check_observation
from act_model.runtime import RuntimeName

_ALIGN = 64
_START_S = 120.0


class ProcessPolicy:
    """A checkpoint that predicts in another process. `predict` is for one thread at a time.

    Attributes:
        checkpoint: What is loaded there.
        contract: What it needs to see and what it delivers.
        stats: Of the data it was trained on.
    """

    def __init__(self, folder: Path, runtime: RuntimeName = "torch", device: str = "auto") -> None:
        """Start the process, which loads the checkpoint meanwhile; `wait` waits for it.

        Args:
            runtime: As in `act_model.runtime.load`; device too.

        Raises:
            NotFoundError, StoreError: There is no checkpoint, or it is damaged.
        """
        with tempfile.TemporaryFile() as file:
            memory_file = os.dup(file.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "act_model.policy_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the control tick, which then ends it
            pass_fds=(memory_file,),
        )
        try:
            self._say(
                {
                    "folder": str(folder),
                    "runtime": runtime,
                    "device": device,
                    "memory": memory_file,
                }
            )
            self.checkpoint = checkpoints.load(folder)
            self.contract: Contract = self.checkpoint.contract
            self.stats: StatsRecord = self.checkpoint.stats
            self.max_prefix = 0
            self._shared = _Layout(self.contract).over(memory_file)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory_file)

    def wait(self) -> None:
        """Return when the checkpoint is loaded.

        Raises:
            ActError: What loading it raised there.
        """
        answer = self._hear(_START_S)
        self.max_prefix = int(answer.get("max_prefix", 0))

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """As `Policy.predict`.

        Raises:
            InputError: The observation is not what the contract says.
            DataError: The process has ended.
        """
        return self._predict(observation, None)

    def predict_after(
        self, observation: Mapping[str, NDArray[np.generic]], prefix_PA: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """As `Policy.predict`, where the first P actions are settled."""
        return self._predict(observation, prefix_PA)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process, whatever it does; a `predict` that waits for it raises."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:  # what was left in it is for nobody
                continue

    def _predict(
        self,
        observation: Mapping[str, NDArray[np.generic]],
        prefix_PA: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        check_observation(self.contract, observation)
        for name, place in self._shared.arrays.items():
            np.copyto(place, observation[name])
        prefix = 0 if prefix_PA is None else len(prefix_PA)
        if prefix_PA is not None:
            self._shared.prefix_KA[:prefix] = prefix_PA
        self._say({"prefix": prefix})
        self._hear(None)
        return self._shared.chunk_KA.copy()

    def _say(self, message: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # a pipe that is broken, or closed from here
            raise self._died() from None

    def _hear(self, timeout_s: float | None) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
            line = self._process.stdout.readline() if ready else b""
        except (OSError, ValueError):
            raise self._died() from None
        if not ready:
            raise DataError(f"the policy is not loaded after {timeout_s:g} s")
        if not line.endswith(b"\n"):
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = InputError if answer.get("input") else DataError
            raise kind(answer["error"], hint=answer.get("hint", ""))
        return answer

    def _died(self) -> DataError:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return DataError("the policy's process no longer answers")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return DataError(f"the policy's process {how}", hint="Its own words are above, if any.")


class _Layout:
    """Where everything lies in the shared memory."""

    def __init__(self, contract: Contract) -> None:
        self._blank = blank_observation(contract)
        actions = sum(len(v.names) for v in contract.action)
        self._chunk = (contract.chunk_size, actions)
        self.bytes = sum(_aligned(a.nbytes) for a in self._blank.values())
        self.bytes += 2 * _aligned(4 * contract.chunk_size * actions)

    def over(self, file: int) -> _Shared:
        """The arrays in `file`, which whoever comes first makes as long as it must be."""
        os.ftruncate(file, self.bytes)
        memory = mmap.mmap(file, self.bytes)
        arrays: dict[str, NDArray[Any]] = {}
        start = 0
        for name, blank in self._blank.items():
            arrays[name] = np.ndarray(blank.shape, blank.dtype, memory, start)
            start += _aligned(blank.nbytes)
        chunk: NDArray[np.float32] = np.ndarray(self._chunk, np.float32, memory, start)
        start += _aligned(chunk.nbytes)
        return _Shared(arrays, chunk, np.ndarray(self._chunk, np.float32, memory, start))


class _Shared:
    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        chunk_KA: NDArray[np.float32],
        prefix_KA: NDArray[np.float32],
    ) -> None:
        self.arrays, self.chunk_KA, self.prefix_KA = arrays, chunk_KA, prefix_KA


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def serve() -> int:
    """Predict, in a process of its own: requests are lines of JSON on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints is not for the pipe: it goes where errors go.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def answer(**message: object) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    def refuse(error: ActError) -> None:
        answer(error=str(error), hint=error.hint, input=isinstance(error, InputError))

    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    job = json.loads(line)
    try:
        policy = runtimes.load(Path(job["folder"]), job["runtime"], job["device"])
    except ActError as error:
        refuse(error)
        return 1
    shared = _Layout(policy.contract).over(job["memory"])
    max_prefix = int(getattr(policy, "max_prefix", 0))
    answer(max_prefix=max_prefix)
    for line in sys.stdin.buffer:
        prefix = int(json.loads(line)["prefix"])
        try:
            if prefix:
                after: Any = policy
                chunk_KA = after.predict_after(shared.arrays, shared.prefix_KA[:prefix].copy())
            else:
                chunk_KA = policy.predict(shared.arrays)
        except ActError as error:
            refuse(error)
            continue
        if chunk_KA.shape != shared.chunk_KA.shape:
            answer(error=f"a chunk has shape {chunk_KA.shape}, {shared.chunk_KA.shape} was said")
            continue
        np.copyto(shared.chunk_KA, chunk_KA)
        answer(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve())
