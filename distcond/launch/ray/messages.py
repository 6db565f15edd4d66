"""Small messages between processes of one Ray cluster, through its key-value store: they need no shared disk.

Without Ray there are no messages. Imports nothing of Ray at its top, as `worker` does.
"""

from __future__ import annotations

from dataclasses import dataclass

_PREFIX = "distcond/"


def put_message(name: str, text: str) -> None:
    """Leave a message for all processes of the cluster, in place of an earlier one of the same name."""
    from ray.experimental.internal_kv import _internal_kv_initialized, _internal_kv_put

    if _internal_kv_initialized():
        _internal_kv_put(f"{_PREFIX}{name}", text, overwrite=True)


def get_message(name: str) -> str | None:
    """The message of that name; None if there is none."""
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_initialized

    found: bytes | None = _internal_kv_get(f"{_PREFIX}{name}") if _internal_kv_initialized() else None
    return None if found is None else found.decode()


def delete_message(name: str) -> None:
    """Remove a message, if it is there."""
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_initialized

    if _internal_kv_initialized():
        _internal_kv_del(f"{_PREFIX}{name}")


@dataclass(frozen=True)
class EpochGate:
    """Holds a run on other workers after each epoch until it is opened for the next.

    Attributes:
        name: unique to a start of the run.
    """

    name: str

    def open_until(self, epochs: int) -> None:
        """Let the run complete so many epochs."""
        put_message(f"gate/{self.name}", str(epochs))

    def holds(self, done: int) -> bool:
        """Whether a run with `done` completed epochs has to wait. Called by the run."""
        if done < int(get_message(f"gate/{self.name}") or 0):
            return False
        put_message(f"gate/{self.name}/waiting", str(done))
        return True

    def waiting_after(self) -> int:
        """The number of completed epochs after which the run has waited last; 0 before it has."""
        return int(get_message(f"gate/{self.name}/waiting") or 0)

    def forget(self) -> None:
        """Remove the messages of the gate."""
        delete_message(f"gate/{self.name}")
        delete_message(f"gate/{self.name}/waiting")
