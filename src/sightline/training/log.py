"""What a run tells while it goes: metrics.jsonl, TensorBoard events, early samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..files import whole_file


class Log:
    """Records of a run, appended as they come; after a resume, records past the checkpoint are dropped first."""

    def __init__(self, folder: Path, resumed_at: int) -> None:
        from tensorboardX import SummaryWriter

        self.path = folder / "metrics.jsonl"
        kept = [line for line in self._lines() if json.loads(line)["step"] <= resumed_at]
        with whole_file(self.path, "w") as handle:
            handle.writelines(f"{line}\n" for line in kept)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - held for the run, closed by `close`
        self._events = SummaryWriter(str(folder / "events"), purge_step=resumed_at + 1 if resumed_at else None)

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        whole = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                json.loads(line)
            except json.JSONDecodeError:
                break  # a line cut short by a kill
            whole.append(line)
        return whole

    def record(self, step: int, **values: Any) -> None:
        """One line of metrics; numbers go to TensorBoard too, texts (samples) as text."""
        self._file.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, bool):
                continue
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)
            elif isinstance(value, str):
                self._events.add_text(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._events.close()
