"""`draftwood index`: build, inspect, merge and export history files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftwood.cli.options import LogFormat, Query, Tokenizer
from draftwood.errors import HistoryError, InvalidOption, SourceError

if TYPE_CHECKING:
    from draftwood.index.history_writer import HistoryWriter
    from draftwood.index.store import HistoryInfo
    from draftwood.logs.log import Log
    from draftwood.logs.tokenizer import TraceTokenizer

index = typer.Typer(
    name="index",
    help="Build, inspect, merge and export history files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Output = Annotated[Path, typer.Option("--output", "-o", help="The history file to write.")]


@index.command()
def build(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Logs in any format of docs/log-formats.md (.jsonl, .csv, .parquet, ..), folders "
            "of them, exported histories, token ids (.tokens: a sequence a line; .npy), or texts "
            "(.txt, .sql: a sequence a file)."
        ),
    ],
    output: Output,
    tokenizer: Tokenizer = None,
    namespace: Annotated[
        str | None,
        typer.Option(help="The namespace of the sequences; default: as the source says, or none."),
    ] = None,
    text: Annotated[bool, typer.Option(help="Take files of other names for texts too.")] = False,
    partial: Annotated[
        bool, typer.Option(help="Replace a history even if parts of the sources are unreadable.")
    ] = False,
    form: LogFormat = None,
    query: Query = None,
) -> None:
    """Build a history from recorded responses, ids or texts.

    A history that stands at the output is replaced only by a new one that lacks nothing of its
    sources, unless --partial is given, and never by an empty one.
    """
    from draftwood.cli.terminal import complain, messages, progress_bar
    from draftwood.index.fingerprint import vocab_fingerprint
    from draftwood.index.history_writer import HistoryWriter
    from draftwood.index.output import require_apart, require_history_or_nothing
    from draftwood.logs.tokenizer import TraceTokenizer

    require_apart(output, sources)
    kept = require_history_or_nothing(output)
    encoder = None if tokenizer is None else TraceTokenizer.load(tokenizer)
    fingerprint = None if encoder is None else vocab_fingerprint(encoder.vocab)
    console = messages()
    problems: list[str] = []

    def problem(text: str) -> None:
        problems.append(text)
        complain(console, text)

    with (
        _files_told(),
        progress_bar(console) as bar,
        HistoryWriter(output, fingerprint=fingerprint) as out,
    ):
        for source in _sources(sources, encoder, form, query, text=text):
            name = source if isinstance(source, Path) else source.paths[0]
            task = bar.add_task(name.name, total=1.0)
            before = out.sequences
            for fraction in _add(source, out, encoder, namespace, text, problem):
                bar.update(task, completed=fraction)
            bar.remove_task(task)
            if out.sequences == before:
                problem(f"{name} holds no sequence; nothing of it is kept")
        if not out.tokens:
            raise SourceError(f"no source holds a token; {output} is left as it was")
        if problems and kept and not partial:
            raise SourceError(
                f"{len(problems)} problems in the sources; {output} is left as it was: mend them, "
                "write to another path, or pass --partial"
            )
        written = out.finish()
    complain(console, f"{output}: {_counts(written)}")
    if problems:
        raise typer.Exit(2)


@index.command()
def info(
    path: Annotated[Path, typer.Argument(help="A history file.")],
    check: Annotated[bool, typer.Option(help="Read and check the whole file too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a history file holds; its header is enough."""
    from draftwood.index.store import History, HistoryInfo

    with _files_told():
        found = HistoryInfo.read(path)
        names = History.open(path).namespaces if check else None
    version = ".".join(map(str, found.version))
    known = any(found.fingerprint)
    if as_json:
        fields = asdict(found) | {"version": version}
        fields["fingerprint"] = found.fingerprint.hex() if known else None
        print(json.dumps(fields if names is None else fields | {"names": names}))
        return
    print(f"{path}: history file, version {version}, {found.file_bytes:,} bytes")
    print(_counts(found))
    print(f"tokenizer fingerprint {found.fingerprint.hex() if known else 'unknown'}")
    if names is not None:
        print("all checksums match; namespaces: " + (", ".join(map(repr, names)) or "none"))


@index.command("merge")
def merge_(
    paths: Annotated[list[Path], typer.Argument(help="History files of one tokenizer.")],
    output: Output,
) -> None:
    """Write the sequences of several histories, in that order, to one."""
    from draftwood.cli.terminal import complain, messages, progress_bar
    from draftwood.index.history_writer import merge
    from draftwood.index.output import require_apart, require_history_or_nothing
    from draftwood.index.store import HistoryInfo

    require_apart(output, paths)
    kept = require_history_or_nothing(output)
    console = messages()
    with _files_told(), progress_bar(console) as bar:
        found = [HistoryInfo.read(path) for path in paths]
        if kept and not any(each.tokens for each in found):
            raise SourceError(f"no file holds a token; {output} is left as it was")
        task = bar.add_task("merge", total=sum(each.sequences for each in found))
        written = merge(paths, output, progress=lambda done: bar.update(task, completed=done))
    complain(console, f"{output}: {_counts(written)}")


@index.command("export")
def export_(
    path: Annotated[Path, typer.Argument(help="A history file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The JSONL file to write. [stdout]")
    ] = None,
) -> None:
    """Write a history as JSON: one object with tokens and what is known of them a line."""
    from draftwood.cli.terminal import messages, progress_bar
    from draftwood.index.output import replacing, require_apart
    from draftwood.index.store import History, HistoryInfo, export

    if output is not None:
        require_apart(output, [path])
        with suppress(HistoryError, OSError):
            HistoryInfo.read(output)
            raise InvalidOption(f"{output} is a history file; write the export to another path")
    with _files_told(), progress_bar(messages()) as bar:
        history = History.open(path)
        task = bar.add_task(path.name, total=len(history))
        advance: Callable[[int], None] = lambda done: bar.update(task, completed=done)  # noqa: E731
        if output is None:
            export(history, sys.stdout, progress=advance)
        else:
            with replacing(output) as file:
                export(history, file, progress=advance)


def _sources(
    given: list[Path],
    encoder: TraceTokenizer | None,
    form: str | None,
    query: str | None,
    *,
    text: bool,
) -> list[Path | Log]:
    """Files of one kind each: logs as such, all others as paths."""
    from draftwood.index import source as read
    from draftwood.logs.files import LOG_ENDINGS
    from draftwood.logs.log import logs_of

    def is_log(path: Path) -> bool:
        ending = _kind(path)
        if path.is_dir():
            return True
        read.require_file(path)
        named = form is not None or query is not None or ending in LOG_ENDINGS
        return named and not text and not (ending == ".jsonl" and read.is_export(path))

    found: list[Path | Log] = []
    for logs, paths in groupby(given, is_log):
        same = list(paths)
        found += logs_of(same, encoder, format=form, query=query) if logs else same
    return found


def _add(
    source: Path | Log,
    out: HistoryWriter,
    encoder: TraceTokenizer | None,
    namespace: str | None,
    text: bool,
    problem: Callable[[str], None],
) -> Iterator[float]:
    """Add all of one source; yields how much of it is done, 0 to 1, now and then."""
    from draftwood.index import source as read

    vocab_size = None if encoder is None else encoder.vocab_size
    if not isinstance(source, Path):
        for record in source:
            more = {} if record.session is None else {"session": record.session}
            about = {"source": source.paths[0].name} | more
            out.add(record.response, namespace=namespace or "", metadata=about)
            yield source.fraction_read
        for line in source.unread.lines():
            problem(line)
        return
    about = {"source": source.name}
    kind = _kind(source)
    if kind == ".jsonl":
        for entry in read.exported(source, vocab_size=vocab_size):
            where = entry.namespace if namespace is None else namespace
            out.add(entry.tokens, namespace=where, time=entry.time, metadata=entry.metadata)
    elif kind == ".tokens":
        for tokens in read.token_lines(source, vocab_size=vocab_size):
            out.add(tokens, namespace=namespace or "", metadata=about)
    elif kind == ".npy":
        tokens = read.array_file(source, vocab_size=vocab_size)
        out.add(tokens, namespace=namespace or "", metadata=about)
    else:
        if not text:
            read.require_text(source, kind)
        tokens = read.text_file(source, None if encoder is None else encoder.encode)
        out.add(tokens, namespace=namespace or "", metadata=about)
    yield 1.0


def _kind(source: Path) -> str:
    """The ending that says what a file holds, without that of its compression."""
    name = source.with_suffix("") if source.suffix in (".gz", ".zst") else source
    return ".jsonl" if name.suffix in (".json", ".ndjson") else name.suffix


def _counts(found: HistoryInfo) -> str:
    return (
        f"{found.sequences:,} sequences, {found.tokens:,} tokens, {found.namespaces:,} "
        f"namespace{'' if found.namespaces == 1 else 's'}"
    )


@contextmanager
def _files_told() -> Iterator[None]:
    """What the operating system refuses becomes one sentence."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        raise typer.Exit(0) from None
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise HistoryError(f"{what}; pass a file that can be used") from None
