"""Every model as a model of lm-evaluation-harness, each family by its own rule.

    loglikelihood          log p of a continuation given its context, of a sentence where the context is empty
    loglikelihood_rolling  log p of a whole text; refused of a pseudo-log-likelihood, which is no probability of one
    generate_until         what the model writes, greedily, up to a stop string

A request without meaning for a family ends the run with the reason, rather than in a figure that looks like others.
Gao et al., The Language Model Evaluation Harness (v0.4, 2024).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from ..errors import SightlineError
from ..objectives.model import Model
from ..progress import say
from .answers import Asking, written
from .continuation import LOOKS, Question, Scorer, Within

NAME = "sightline"
TOKENS = 256  # of a written answer, where a task names no number


def adapter(load: Callable[..., Model]) -> type:
    """The class that the harness knows as ``sightline``, registered there; the same one when asked again.

    Parameters
    ----------
    load : makes a model of ``path`` on ``device``, with numbers of ``dtype``.

    Raises
    ------
    SightlineError : the harness is not installed.
    """
    try:
        import lm_eval.models  # noqa: F401 - it fills the registry
        from lm_eval.api.model import LM
        from lm_eval.api.registry import model_registry
    except ImportError as error:
        raise SightlineError(f"lm-eval is not installed ({error})", "pip install 'sightline[harness]'") from error
    if NAME in model_registry:
        known: type = model_registry.get(NAME)
        return known

    class Sightline(LM):  # type: ignore[misc]
        """A model folder, or a model, as the harness asks it.

        Parameters
        ----------
        path : a model folder, or the folder of a run; in Python a model may stand in its place.
        within, both_sides, looks : how a family is asked (see ``sightline evaluate``).
        """

        def __init__(
            self,
            path: Any = None,
            within: Within = "word",
            both_sides: bool = False,
            looks: int = LOOKS,
            dtype: str = "float32",
            device: str | None = None,
            batch_size: Any = None,  # ours are made by tokens
            max_batch_size: Any = None,
        ) -> None:
            super().__init__()
            if path is None:
                raise SightlineError("the harness was given no model", "Say --model_args path=RUN")
            model = path if isinstance(path, Model) else load(str(path), device or "auto", dtype)
            self.scorer = Scorer.of(model, within, both_sides, int(looks))

        @property
        def tokenizer_name(self) -> str:
            """What parts the harness's stored requests of one tokenizer from those of another."""
            return self.scorer.model.tokenizer.fingerprint

        def get_model_info(self) -> dict[str, Any]:
            """What stands beside the results: the family, the class of its scores, and its rules."""
            return told(self.scorer)

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            keys = [_key(one.task_name, one.doc_id) for one in requests]
            return self._kept("loglikelihood", requests, likelihoods(self.scorer, [one.args for one in requests], keys))

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            return self._kept("loglikelihood_rolling", requests, whole(self.scorer, [one.args[0] for one in requests]))

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            return self._kept("generate_until", requests, until(self.scorer, [one.args for one in requests]))

        def _kept(self, kind: str, requests: Sequence[Any], answers: list[Any]) -> list[Any]:
            for request, answer in zip(requests, answers, strict=True):
                self.cache_hook.add_partial(kind, request.args, answer)
            return answers

    model_registry.register(NAME)(Sightline)
    return Sightline


def told(scorer: Scorer) -> dict[str, Any]:
    """The family, the class of its scores, and by what rule it answers which question."""
    questions: tuple[Question, ...] = ("whole", "continuation")
    rules = {name: scorer.refusal(name) or f"{scorer.rule(name)}; {scorer.marks(name)}" for name in questions}
    objective = scorer.objective
    return {"family": objective.family, "score_class": objective.score_class, "score_rules": rules}


def likelihoods(scorer: Scorer, requests: Sequence[tuple[str, str]], keys: Sequence[int]) -> list[tuple[float, bool]]:
    """Log p of each continuation given its context, and whether the model would write it.

    The second is told of families that write the next token; of others it is False. Requests of one item have one key:
    their bounds are drawn alike.
    """
    found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
    steps = Asking(scorer).steps
    questions: tuple[Question, ...] = ("whole", "continuation")
    for question in questions:
        chosen = [at for at, (context, _) in enumerate(requests) if (context == "") == (question == "whole")]
        if not chosen:
            continue
        asked, items = [requests[at] for at in chosen], [keys[at] for at in chosen]
        scores = scorer.score(asked, question, items=items, greedy=steps)
        for at, logp, likeliest in zip(chosen, scores.logp.tolist(), scores.greedy.tolist(), strict=True):
            found[at] = (logp, likeliest)
    return found


def whole(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    """Log p of whole texts, beyond the model's context by windows that keep half of it.

    Raises
    ------
    SightlineError : the family has no probability of whole texts.
    """
    objective = scorer.objective
    if objective.score_class == "pseudo":
        raise SightlineError(
            f"{objective.family} gives pseudo-log-likelihoods, and the harness would print them as a perplexity",
            "Use `sightline score`, which gives them a column of their own",
        )
    if objective.score_class == "bound":
        say(f"{objective.family} gives a bound: the harness prints a perplexity that is an upper bound of its own")
    logp: list[float] = scorer.score([("", text) for text in texts], "whole").logp.tolist()
    return logp


def until(scorer: Scorer, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """What the model writes behind each context, up to the first of the stop strings.

    Raises
    ------
    SightlineError : the family does not write behind a text, or a task wants draws.
    """
    if why := Asking(scorer).refusal("number"):
        raise SightlineError(why, "Use a family that writes from the left")
    room = scorer.model.context // 2
    alike: dict[int, list[int]] = defaultdict(list)
    for at, (_, wanted) in enumerate(requests):
        if wanted.get("do_sample") and wanted.get("temperature", 1.0) > 0:
            raise SightlineError("a task wants texts that are drawn", "Give --gen_kwargs do_sample=false")
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        alike[int(next((wanted[name] for name in names if wanted.get(name)), TOKENS))].append(at)
    texts = [""] * len(requests)
    for length, chosen in alike.items():
        if length > room:
            say(f"of {length} tokens to write, {room} fit a context of {scorer.model.context} beside a question")
        pieces = written(scorer.model, [requests[at][0] for at in chosen], min(length, room))
        for at, piece in zip(chosen, pieces, strict=True):
            stops = requests[at][1].get("until") or []
            texts[at] = _cut(piece, [stops] if isinstance(stops, str) else stops)
    return texts


def _key(task: str | None, number: int | None) -> int:
    return crc32(f"{task}:{number}".encode())


def _cut(text: str, stops: Sequence[str]) -> str:
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
