"""Which format lies at a path, and how it is opened."""

from __future__ import annotations

from pathlib import Path

from act_data.convert.foreign import Foreign, Format
from act_data.convert.settings import ConvertSettings, Target
from act_data.errors import InputError, NotFoundError


def source_format(path: Path) -> Format:
    """What `path` holds, by its files and not by its name.

    Raises:
        NotFoundError: There is nothing.
        InputError: Nothing that is known here.
    """
    if not path.exists():
        raise NotFoundError(f"there is nothing at {str(path)!r}", hint="Check the spelling.")
    if path.is_file():
        if path.name.endswith(".zip"):
            return "replay_buffer"
        return _hdf5_format(path)
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    if (path / "zarr.json").is_file():
        return "act_zarr"
    if (path / "meta" / "episode_ends").is_dir():
        return "replay_buffer"
    files = sorted(p for p in path.iterdir() if p.suffix in (".hdf5", ".h5"))
    if files:
        return _hdf5_format(files[0])
    raise InputError(
        f"{str(path)!r} is no dataset that is known here",
        hint="Known are *.zarr of this toolkit, ALOHA HDF5 files, LeRobot datasets, "
        "ReplayBuffer zarr (also zipped) and robomimic HDF5; recordings go through "
        "`act-data ingest`.",
    )


def target_format(path: Path, settings: ConvertSettings) -> Target:
    """What is written to `path`.

    Raises:
        InputError: Its suffix says something else than was asked for.
    """
    by_name: Target | None = {".zarr": "act_zarr", ".hdf5": "aloha_hdf5"}.get(path.suffix)  # type: ignore[assignment]
    if path.suffix in (".h5", ".zip", ".bag", ".mcap", ".db3") or not path.resolve().name:
        raise InputError(
            f"{str(path)!r} is no name for a dataset",
            hint="Write NAME.zarr, NAME.hdf5, a folder for HDF5 episodes, or a folder with "
            "--to lerobot.",
        )
    wanted = settings.target_format or by_name or "aloha_hdf5"
    if (by_name or wanted) != wanted or (wanted == "act_zarr" and by_name is None):
        raise InputError(
            f"{str(path)!r} cannot be of the format {wanted}",
            hint="*.zarr is act_zarr, *.hdf5 one ALOHA episode; others have no suffix.",
        )
    return wanted


def open_source(path: Path, settings: ConvertSettings) -> Foreign:
    """The dataset at `path`, opened.

    Raises:
        NotFoundError: There is nothing.
        InputError: It is in no format that is known here.
        DataError: It is damaged, or not what its format demands.
    """
    kind = settings.source_format or source_format(path)
    if kind in ("act_zarr", "act_hdf5"):
        from act_data.convert.own import open_own
        from act_data.store import open_dataset

        return open_own(open_dataset(path), kind)
    if kind == "lerobot":
        from act_data.convert.lerobot import require

        require()
        from act_data.convert.lerobot.read import open_lerobot

        return open_lerobot(path, settings)
    if kind == "replay_buffer":
        from act_data.convert.replay_buffer import open_replay_buffer

        return open_replay_buffer(path, settings)
    if kind == "robomimic":
        from act_data.convert.robomimic import open_robomimic

        return open_robomimic(path, settings)
    from act_data.convert.aloha import open_aloha

    return open_aloha(path, settings)


def _hdf5_format(path: Path) -> Format:
    from act_data.store.hdf5 import GuardedFile

    with GuardedFile(path) as file:
        if file.holds("act"):
            return "act_hdf5"
        if file.holds("action") and file.holds("observations"):
            return "aloha_hdf5"
        if file.holds("data"):
            return "robomimic"
    raise InputError(
        f"{str(path)!r} is an HDF5 file of an unknown layout",
        hint="ALOHA files have 'action' and 'observations', robomimic files 'data'.",
    )
