"""A trained network as a function of a robot's observation, in the robot's own units.

Shape suffixes: B batch, N cameras, M depth cameras, C channels, H height, W width, S state dim,
K action chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from act_data.errors import InputError, StoreError
from act_data.records import StatsRecord
from act_model import checkpoint as checkpoints
from act_model.checkpoint import Checkpoint
from act_model.config import Contract
from act_model.contract import check_observation
from act_model.dataset import Batch
from act_model.families import Family, NetworkInput, family_of
from act_model.nn.unfilled import unfilled
from act_model.recorded import Recorded
from act_model.transforms import Transform


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a policy says about one observation.

    Attributes:
        actions: (K, A) of the next K ticks, in the robot's units.
        over: (K,) probability that the episode has ended by that tick, in a policy that learned
            it (`is_pad_head`); None in others.
    """

    actions: NDArray[np.float32]
    over: NDArray[np.float32] | None


class Policy:
    """A checkpoint ready to predict. `predict` may be called from one thread at a time.

    Attributes:
        checkpoint: What it was loaded from.
        contract: What it needs to see and what it delivers.
        stats: Of the data it was trained on.
        device: Where it runs.
        family: What `network` is.
        network: In evaluation mode.
        transform: Into and out of `network`.
    """

    def __init__(
        self, checkpoint: Checkpoint, network: nn.Module, device: torch.device | str = "cpu"
    ) -> None:
        """A policy from parts that are already in memory; from a folder: `load`."""
        self.checkpoint = checkpoint
        self.contract: Contract = checkpoint.contract
        self.stats: StatsRecord = checkpoint.stats
        self.device = torch.device(device)
        self.family: Family[Any, Any] = family_of(checkpoint.model)
        self.network = network.to(self.device).eval()
        self.transform = Transform(
            checkpoint.model, checkpoint.contract, checkpoint.stats, checkpoint.train
        ).to(self.device)
        self._recorded: Recorded | None = None
        if self.device.type == "cuda" and self.family.replays(checkpoint.model):
            self._recorded = Recorded(
                lambda *arrays: self._outputs(self._seen(*arrays)), self.device
            )

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Policy:
        """The policy in a checkpoint folder.

        Args:
            device: As torch names it; "auto" takes the first GPU if there is one.

        Raises:
            NotFoundError: There is no checkpoint.
            StoreError: It is damaged, newer than this version, or its weights are of another net.
            InputError: There is no such device.
        """
        checkpoint = checkpoints.load(folder)
        with unfilled():
            network = family_of(checkpoint.model).build(checkpoint.model)
        weights = checkpoints.load_weights(checkpoint)
        _check_weights(folder, network.state_dict(), weights)
        network.load_state_dict(weights)
        return cls(checkpoint, network, device_of(device))

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """The actions of the next K ticks, (K, A) float32 in the robot's units.

        Args:
            observation: By array name, as the dataset holds one step: "qpos" (D,) float32,
                "images/<camera>" (H, W, 3) uint8 RGB, "depth/<camera>" (H, W) uint16 mm. Arrays
                that the policy does not use are ignored.

        Raises:
            InputError: An array is missing, or is not what the contract says; all are listed.
        """
        return self.predict_chunk(observation).actions

    @property
    def max_prefix(self) -> int:
        """The longest prefix that it was trained with; 0: with none."""
        return int(getattr(self.checkpoint.model, "max_prefix", 0))

    def predict_after(
        self, observation: Mapping[str, NDArray[np.generic]], prefix_PA: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """As `predict`, where the first P actions are settled: see `predict_chunk`."""
        return self.predict_chunk(observation, prefix_PA).actions

    def predict_chunk(
        self,
        observation: Mapping[str, NDArray[np.generic]],
        prefix_PA: NDArray[np.float32] | None = None,
    ) -> Prediction:
        """As `predict`, with everything the policy knows.

        Args:
            observation: As for `predict`.
            prefix_PA: In the robot's units: the first actions of the chunk, which are executed
                whatever is predicted, since they are due before the prediction is ready. They come
                back unchanged, and the others go on from them. P is at most `max_prefix`.

        Raises:
            InputError: As `predict`; or the prefix is longer than the policy can take.
        """
        arrays = self._arrays(observation)
        if self._recorded is not None and prefix_PA is None:
            actions_BKA, over_BK = _fetched(self._recorded(*arrays))
        else:
            seen = self._seen(*arrays)
            if prefix_PA is not None:
                seen = replace(seen, committed=self._committed(prefix_PA))
            actions_BKA, over_BK = self._predict(seen)
        actions_KA = actions_BKA[0]
        if prefix_PA is not None:
            actions_KA[: len(prefix_PA)] = prefix_PA  # exactly: not there and back in units
        return Prediction(actions=actions_KA, over=None if over_BK is None else over_BK[0])

    def predict_batch(self, batch: Batch) -> NDArray[np.float32]:
        """As `predict`, (B, K, A), for samples of a dataset; their actions are not looked at."""
        return self.predict_chunks(batch)[0]

    def predict_chunks(
        self, batch: Batch
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """As `predict_batch`, and (B, K) of `Prediction.over`."""
        batch = batch.to(self.device)
        with torch.inference_mode():
            seen = NetworkInput(
                images=self.transform.images(batch.images),
                state=self.transform.state(batch.state),
                depth=self.transform.depth(batch.depth),
            )
        return self._predict(seen)

    def inputs(self, observation: Mapping[str, NDArray[np.generic]]) -> NetworkInput:
        """What the network sees of `observation`, B = 1. Arguments and errors as in `predict`."""
        return self._seen(*self._arrays(observation))

    def _arrays(self, observation: Mapping[str, NDArray[np.generic]]) -> list[Tensor]:
        """State (1, S), pictures (1, H, W, 3) and depth (1, H, W) of `observation`, on the CPU."""
        check_observation(self.contract, observation)
        contract = self.contract
        state_S = np.concatenate([observation[v.name] for v in contract.state])
        pictures = [observation[f"images/{c.name}"] for c in contract.cameras]
        depth = [observation[f"depth/{c.name}"] for c in contract.depth]
        # Copied: torch refuses arrays that cannot be written, and those of a store often cannot.
        return [
            torch.from_numpy(np.array(array)[None])
            for array in (state_S.astype(np.float32), *pictures, *depth)
        ]

    def _seen(self, state_BS: Tensor, *pictures: Tensor) -> NetworkInput:
        """What the network sees of such arrays."""
        cameras = len(self.contract.cameras)
        there = [picture.to(self.device) for picture in pictures]
        with torch.inference_mode():
            return NetworkInput(
                images=self.transform.images(there[:cameras]),
                state=self.transform.state(state_BS.to(self.device)),
                depth=self.transform.depth(there[cameras:]),
            )

    def _committed(self, prefix_PA: NDArray[np.float32]) -> Tensor:
        """(1, P, A), normalised."""
        wanted = self.checkpoint.model.action_dim
        if prefix_PA.shape[1:] != (wanted,) or len(prefix_PA) > self.max_prefix:
            raise InputError(
                f"a prefix of actions is {prefix_PA.shape}, the policy takes up to "
                f"({self.max_prefix}, {wanted})",
                hint="Train the policy with a larger max_prefix, or deploy it without.",
            )
        given_1PA = torch.from_numpy(prefix_PA.astype(np.float32)[None])
        return self.transform.action(given_1PA.to(self.device))

    def _predict(
        self, seen: NetworkInput
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """(B, K, A) actions in the robot's units, and (B, K) of `Prediction.over`."""
        return _fetched(self._outputs(seen))

    def _outputs(self, seen: NetworkInput) -> tuple[Tensor, ...]:
        """The same on the device."""
        with torch.inference_mode():
            predicted = self.family.predict(self.network, seen)
            actions_BKA = self.transform.unaction(predicted.actions_BKA).float()
        over_BK = predicted.is_pad_BK
        return (actions_BKA,) if over_BK is None else (actions_BKA, over_BK)


def _fetched(
    outputs: tuple[Tensor, ...],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    actions_BKA, *over_BK = (output.cpu().numpy() for output in outputs)
    return actions_BKA, over_BK[0] if over_BK else None


def device_of(name: str) -> torch.device:
    """The device called `name`; "auto" is the first GPU, or the CPU where there is none.

    Raises:
        InputError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:  # torch asserts that it was built with CUDA
        raise InputError(f"there is no device {name!r} here", hint="Use auto or cpu.") from e
    return device


def _check_weights(folder: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    wrong = sorted(
        name
        for name in wanted.keys() | found.keys()
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    )
    if wrong:
        raise StoreError(
            f"{folder}: {len(wrong)} weights do not fit the network of its config.json, "
            f"first {wrong[0]!r}",
            hint="The folder mixes two checkpoints; take the original one.",
        )
