"""The command line: one word a command, each a thin word over the public function of the same name.

``sightline --help`` is made by hand here and loads nothing; the first word picks which parser is built.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import __version__
from .errors import SightlineError, Stopped
from .memory import keep_freed_memory

WRONG = 2  # exit codes: what was asked is wrong
STOPPED = 130  # stopped by the user, as shells say it (128 + SIGINT)
NO_READER = 141  # nobody reads the output any more (128 + SIGPIPE)


@dataclass(frozen=True)
class Command:
    """A command: the module that holds its function, and what it does in a line."""

    module: str
    does: str


COMMANDS = {
    "compare": Command("compare", "train several families under one budget each, and write one report"),
    "train": Command("train", "train one family; the same command goes on where it stopped"),
    "adopt": Command("adopt", "take in a model that others trained; change its sight and keep its weights"),
    "generate": Command("write", "write on from a text (backward: what comes before it)"),
    "translate": Command("translate", "the targets of sources, by a model of pairs; BLEU where they are known"),
    "distill": Command("distill", "a corpus of pairs with a model's targets in place of its own"),
    "fill": Command("write", "fill the blanks of a text"),
    "score": Command("score", "bits per byte of a text or a corpus, with class and interval"),
    "evaluate": Command("evaluate", "benchmarks from local files, each family by its own rule, every answer kept"),
    "embed": Command("embed", "one vector for each text"),
    "finetune": Command("finetune", "teach a model a task from labelled items; every answer on test kept"),
    "predict": Command("predict", "ask a fine-tuned model: a label, number, tags, answer or target for each item"),
    "forecast": Command("forecast", "forecast series of numbers, with intervals"),
    "similar": Command("lexicon", "the words most like a word"),
    "analogy": Command("lexicon", "what is to a word as another is to a third"),
    "vectors": Command("lexicon", "vectors of words for other programs: word2vec's files, a Projector table"),
    "export": Command("export", "a model in other programs' files: GGUF, ONNX, CTranslate2, word2vec, Hugging Face"),
    "latency": Command("latency", "how quickly models write: one text at a time, and in the largest batch that pays"),
    "probe": Command("probe", "what each layer holds: a linear probe on classes of texts or tags of words"),
    "versus": Command("versus", "two models on the same items: a paired test, and what the size could show"),
    "see": Command("see", "what a model sees: declared beside measured, leaks named"),
    "families": Command("families", "every family with its sight drawn small"),
}

EXAMPLES = """\
  sightline compare python-docs --budget 60s
  sightline compare corpus/ --families causal,masked --budget 20Mtok --size mini --out runs/mine
  sightline generate runs/mine "The function returns" --length 40"""


def overview() -> str:
    """What ``sightline --help`` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.does}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sightline COMMAND ...",
            "",
            "One text, several families of language models, one budget, one honest page.",
            "",
            "commands:",
            *lines,
            "",
            "examples:",
            EXAMPLES,
            "",
            "sightline COMMAND --help tells every option; sightline --version the version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for what was asked wrongly, 130 where it was stopped."""
    if argv is None:  # the process is ours
        keep_freed_memory()
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter shows a question mark
    try:
        with _quiet():
            _run(words)
            sys.stdout.flush()
    except SystemExit as leave:  # the parser's own: 0 after --help, 2 after a usage error
        return leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
    except SightlineError as error:
        return _failed(error)
    except (Stopped, KeyboardInterrupt) as stop:
        print(f"\n{stop}" if str(stop) else "\nstopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # Python flushes once more when it leaves
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        do = "Make room; what was there before is whole" if error.errno == errno.ENOSPC else "Check the path"
        return _failed(SightlineError(f"{place}{error.strerror}", do))
    return 0


def _failed(error: SightlineError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return WRONG


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help") or words == ["help"]:
        print(overview())
        return
    if words[0] in ("-V", "--version"):
        print(f"sightline {__version__}")
        return
    if words[0] == "help":
        words = [words[1], "--help"]
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        raise _unknown(name)
    module = importlib.import_module(f"{__package__}.runs.{COMMANDS[name].module}")
    result = _parsed(name, getattr(module, name), rest)
    if result is None:
        return
    print(result)
    print(f"\nnext: {result.next}")


def _unknown(name: str) -> SightlineError:
    if name.startswith("-"):
        return SightlineError(f"{name} stands before a command", "Write sightline COMMAND ..., options behind it")
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f"Did you mean {close[0]}? The commands are" if close else "The commands are"
    return SightlineError(f"there is no command {name!r}", f"{meant} {', '.join(COMMANDS)}")


def _parsed(name: str, function: Callable[..., Any], words: list[str]) -> Any:
    """Call a command's function with what its words say."""
    import tyro

    told = inspect.getdoc(function) or ""
    return tyro.cli(
        function,
        prog=f"sightline {name}",
        description=told.partition("\nArgs:")[0].rstrip(),
        args=words,
        config=(
            tyro.conf.DisallowNone,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.PositionalMetavarFromFieldName,
            tyro.conf.AvoidSubcommands,
        ),
    )


@contextlib.contextmanager
def _quiet() -> Any:
    """Other people's warnings are not for the user of a command; ours are, and so are those asked for with -W."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=r"sightline(\.|$)")
        yield


if __name__ == "__main__":
    sys.exit(main())
