"""What is done beside the engine: history and figures are written down, a line is logged."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from stat import S_ISDIR
from threading import Event, Thread
from time import monotonic, time
from typing import Any

from draftwood.serving.engine_sessions import EngineSessions

_KEPT_SECONDS = 86_400.0


class Housekeeping:
    """A thread that every so often flushes an engine's history and publishes its figures.

    Nothing of it is waited for by the engine, and what fails is counted in the figures. It ends
    with `stop`, which does all of it a last time, and with the process.
    """

    def __init__(self, sessions: EngineSessions, instance: str, rank: int = 0) -> None:
        self._sessions = sessions
        self._file = figures_folder() / f"{instance}-{rank}.json"
        self._stopped = Event()
        self._logged = monotonic()
        self._last: Mapping[str, Any] | None = None
        self._thread = Thread(target=self._run, name="draftwood-housekeeping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write everything down a last time; figures of an engine that is gone are removed."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join(timeout=5.0)
        self._sessions.close()
        self._file.unlink(missing_ok=True)

    def _run(self) -> None:
        options = self._sessions.options
        while not self._stopped.wait(options.flush_seconds):
            try:
                self.tidy()
            except Exception:
                self._sessions.failed("housekeeping")

    def tidy(self) -> None:
        """Flush, publish, and log where it is time; nothing once the sessions are closed."""
        if self._sessions.closed:
            return
        if self._sessions.recall is not None:
            self._sessions.recall.flush()
        report = self._sessions.report()
        publish_figures(self._file, report)
        seconds = self._sessions.options.log_seconds
        if seconds and monotonic() - self._logged >= seconds:
            if self._last is None or report["steps"] > self._last["steps"]:
                self._sessions.log.info("%s", line_of(report, self._last))
            self._logged, self._last = monotonic(), report


def figures_folder() -> Path:
    """Where engines of this user publish their figures."""
    return Path(tempfile.gettempdir()) / f"draftwood-{os.getuid()}"


def publish_figures(file: Path, report: Mapping[str, Any]) -> None:
    """Write a report for other processes of this user; readers see the last whole one."""
    folder = file.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022 or not S_ISDIR(found.st_mode):
        raise OSError(f"{folder} is not this user's alone; remove it")
    for old in folder.glob("*.json"):  # of engines that were killed
        if time() - old.stat().st_mtime > _KEPT_SECONDS:
            old.unlink(missing_ok=True)
    part = file.with_suffix(f".{token_hex(4)}.part")  # engines of one name do not meet there
    part.write_text(json.dumps({**report, "time": time()}), "utf-8")
    part.replace(file)


def read_figures(instance: str) -> dict[str, dict[str, Any]]:
    """The last reports of an engine of this machine, by data-parallel rank."""
    found = {}
    for file in sorted(figures_folder().glob(f"{instance}-*.json")):
        try:
            found[file.stem.rpartition("-")[2]] = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
    return found


def line_of(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """The log line: what the last interval brought."""
    drafted, accepted = (
        sum(now[each].values()) - (sum(before[each].values()) if before else 0)
        for each in ("drafted", "accepted")
    )
    rows, steps, tokens, seconds, saved, errors = (
        now[each] - (before[each] if before else 0)
        for each in ("rows", "steps", "tokens", "draft_seconds", "seconds_saved", "error_count")
    )
    on = [rows for rows, state in now["budget"].items() if state["drafting"]]
    off = [rows for rows, state in now["budget"].items() if not state["drafting"]]
    return (
        f"Draftwood: {tokens / max(rows, 1):.2f} tokens per row and step, "
        f"accepted {accepted} of {drafted} drafted, "
        f"drafting {1e3 * seconds / max(steps, 1):.2f} ms a step, saved {saved:.1f} s, "
        f"history {now['history_tokens']} tokens, "
        f"drafts at batch {', '.join(on) or 'none'}, off at {', '.join(off) or 'none'}, "
        f"errors {errors}"
    )
