"""``report.html``: one self-contained page from plain records. No outside address, no third party's script."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..files import whole_file
from .chart import COLOURS, Line, Whisker, curves, whiskers
from .film import drawn
from .headline import Cell, count, duration, headline, power
from .recommendation import recommended
from .record import Comparison, Family, Point, Results, Sample
from .style import CSS, SCRIPT

EMBLEM = "".join(
    f'<rect x="{7 * column}" y="{7 * row}" width="6" height="6" fill="var(--{"accent" if column <= row else "hidden"})"'
    "/>"
    for row in range(4)
    for column in range(4)
)
SHOWN_SAMPLES = 3
FOLDED = 30  # paired differences beyond which their table is closed at first
# Why a score of this class stands beside no likelihood of texts.
ALONE = {
    "pseudo": "It adds up tokens each asked given all the others; such sums belong to no distribution over texts, and "
    "come out lower than any likelihood can.",
    "nar": "It takes the answers of one pass to be independent of each other; what it says of a text is exact under "
    "that assumption only.",
    "discriminative": "It judges tokens and gives none a probability.",
    "density": "It is a density of numbers, whose nats may fall below zero.",
}
NO_TEXT = "It is asked for parts of a text, not for the whole."
CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)}  # as pictures: HTML has none of them
AXES: tuple[tuple[str, Callable[[Point], float], Callable[[float], str]], ...] = (
    ("corpus tokens read", lambda point: point.tokens, count),
    ("FLOPs", lambda point: point.flops, lambda value: power(value) if value else "0"),
    ("seconds of training", lambda point: point.seconds, lambda value: f"{value:g} s"),
)


def write_report(results: Mapping[str, Any], path: Path) -> Path:
    """Write the page of these results, whole or not at all, and return its path.

    Raises
    ------
    SightlineError : the results are not whole, or of another schema.
    """
    text = page(results)
    with whole_file(Path(path), "w") as handle:
        handle.write(text)
    return Path(path)


def page(results: Mapping[str, Any]) -> str:
    """The page of a comparison, from the content of ``results.json``."""
    found = Results.of(results)
    name = str(found.corpus.get("name") or "a corpus")
    title = f"{len(found.families)} famil{'y' if len(found.families) == 1 else 'ies'} on {name}, one budget"
    sections = (
        _opening(found, title),
        _taking(found),
        _table(found),
        _likelihoods(found),
        _differences(found),
        _curves(found),
        _sights(found),
        _films(found),
        _samples(found),
        _floors(found),
        _rules(found),
        _origin(found),
    )
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · Sightline</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#table">To the table</a>\n<main>\n{body}\n</main>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _opening(found: Results, title: str) -> str:
    budget = str(found.budget.get("text") or "")
    facts = [
        f"budget {budget} each" if budget else "",
        f"size {found.size}" if found.size else "",
        f"{_amount(found.corpus.get('bytes'))}B of text" if found.corpus.get("bytes") else "",
        f"{_amount(found.corpus['numbers'])} numbers, {_amount(found.corpus['series'])} series"
        if found.numbers
        else "",
        f"{count(float(found.tokenizer['size']))} token ids" if found.tokenizer.get("size") else "",
        f"{max((family.seeds for family in found.families), default=1)} seed(s)",
    ]
    said = " · ".join(fact for fact in facts if fact)
    return (
        f'<header><svg viewBox="0 0 27 27" width="34" height="34" aria-hidden="true">{EMBLEM}</svg>'
        f'<p class="eyebrow">Sightline</p><h1>{escape(title)}</h1><p class="soft">{escape(said)}</p></header>'
    )


def _amount(value: Any) -> str:
    return count(float(value)) if isinstance(value, int | float) else escape(str(value))


def _taking(found: Results) -> str:
    sentences = recommended(found)
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return (
        f'<section class="take" aria-labelledby="take"><h2 id="take" style="border:0;margin:.2rem 0;padding:0">'
        f"Which family to take for what</h2><ul>{items}</ul>"
        '<p class="soft">Computed from the scores and their 95% intervals; paired by document where two families were '
        "asked the same documents.</p></section>"
    )


def _table(found: Results) -> str:
    laid = headline(found)
    head = "".join(
        f'<th scope="col"{" class=muted" if heading.unit == "not comparable" else ""}>{escape(heading.name)}'
        f'<span class="unit">{escape(heading.unit)}</span></th>'
        for heading in laid.headings
    )
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}<span class="small">{escape(_told(title))}</span></th>'
        f"{''.join(_cell(cell) for cell in line)}</tr>"
        for (name, title), line in zip(laid.names, laid.lines, strict=True)
    )
    sample = _sampled(found.evaluation)
    what = "numbers" if found.numbers else "text"
    return (
        f'<section aria-labelledby="table"><h2 id="table">The same {what} and budget for each</h2>'
        f'<p class="soft">Below a figure: its 95% interval. &lt;= is an upper bound.{escape(sample)}</p>'
        '<div class="scroll" role="region" aria-labelledby="table" tabindex="0"><table>'
        f'<thead><tr><th scope="col">family</th>{head}</tr></thead><tbody>{lines}</tbody></table></div></section>'
    )


def _told(title: str) -> str:
    """What a title says behind the family's name."""
    return title.partition(":")[2].strip() or title


def _listed(label: str, headings: Sequence[str], lines: str, plain: bool = True) -> str:
    """A table that scrolls inside its box."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">'
        f"<table{' class=plain' if plain else ''}><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    interval = f'<span class="spread">{escape(cell.spread)}</span>' if cell.spread else ""
    small = f'<span class="small">{escape(cell.small)}</span>' if cell.small else ""
    return f"<td{' class=muted' if cell.muted else ''}>{escape(cell.text)}{interval}{small}</td>"


def _sampled(evaluation: Mapping[str, Any]) -> str:
    note = str(evaluation.get("note") or "")
    if note:
        return f" Scored on {note}."
    documents, size = evaluation.get("documents"), evaluation.get("bytes")
    return f" Scored on {documents} test documents, {size} bytes." if documents and size else ""


def _likelihoods(found: Results) -> str:
    """Values with whiskers for the exact columns."""
    drawings = []
    for name, caption in (
        ("bits_per_byte", "Whole text. To the left is better."),
        ("continuation_bits_per_byte", "The second half of each piece, given the first. To the left is better."),
        ("nats_per_number", "Density of each number, given all before it. To the left is better."),
        ("crps", "CRPS of whole forecasts, in standard deviations. To the left is better."),
        ("infilling_bits_per_byte", "A blank in the middle of each piece, given both sides. To the left is better."),
    ):
        marks = []
        for number, family in enumerate(found.families):
            score = family.likelihood() if name == "bits_per_byte" else family.score(name)
            if score is not None and score.value is not None:
                marks.append(Whisker(family.family, score.value, score.low, score.high, number))
        unit = "bits per byte" if name.endswith("bits_per_byte") else name.replace("_", " ")
        drawn = whiskers(marks, unit) if len(marks) > 1 else ""
        if drawn:
            drawings.append(f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>")
    if not drawings:
        return ""
    return f'<section><h2>Likelihoods with their intervals</h2><div class="grid">{"".join(drawings)}</div></section>'


def _differences(found: Results) -> str:
    if not found.comparisons:
        return ""
    lines = "".join(_difference(one) for one in found.comparisons)
    headings = ("first minus second", "score", "difference", "95% interval", "more than chance")
    table = _listed("Paired differences", headings, lines)
    if len(found.comparisons) > FOLDED:
        table = f"<details><summary>All {len(found.comparisons)} differences</summary>{table}</details>"
    return (
        "<section><h2>Differences, paired by document</h2><p>What is hard about a document is hard for both, so a "
        f"paired difference is decided sooner than two intervals side by side.</p>{table}</section>"
    )


def _difference(one: Comparison) -> str:
    known = one.low is not None and one.high is not None
    interval = f"{one.low:+.3f} to {one.high:+.3f}" if known else "none: too few documents"
    decided = "yes" if known and (one.low > 0 or one.high < 0) else "no"  # type: ignore[operator]
    words = (f"{one.a} − {one.b}", one.score.replace("_", " "), f"{one.difference:+.3f}", interval, decided)
    first, *others = (escape(word) for word in words)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{other}</td>" for other in others)}</tr>'


def _curves(found: Results) -> str:
    learned = [(number, family) for number, family in enumerate(found.families) if len(family.curve) > 1]
    trained = [one for one in learned if not one[1].judges]  # nats of labels have no height here
    if not trained:
        return ""
    own = {family.family for _, family in trained if family.likelihood() is None and not found.numbers}
    legend = "".join(
        f'<li><i class="{"own" if family.family in own else ""}" style="border-color:var(--c{number % COLOURS})"></i>'
        f"{escape(family.family)}</li>"
        for number, family in trained
    )
    loss = _drawn(trained, own, "loss in nats per answer", lambda point: point.loss)
    dev = _drawn(trained, own, "nats per answer on dev", lambda point: point.dev)
    held = f"<h3>Loss on dev, while training</h3><div class=grid>{dev}</div>" if dev else ""
    dashed = " Dashed: a loss of another kind, whose height says nothing beside the others." if own else ""
    return (
        "<section><h2>Learning</h2><p>Training loss of each family's own question, over what it has read, computed and "
        f"waited for. Compare the shapes; heights only between families of one kind.{dashed}</p>"
        f'<ul class="legend">{legend}</ul><div class="grid">{loss}</div>{held}</section>'
    )


def _drawn(
    trained: Sequence[tuple[int, Family]], own: set[str], up: str, value: Callable[[Point], float | None]
) -> str:
    figures = []
    for across, along, written in AXES:
        lines = []
        for number, family in trained:
            points = tuple((along(point), held) for point in family.curve if (held := value(point)) is not None)
            if len({x for x, _ in points}) > 1:
                lines.append(Line(family.family, number, family.family in own, points))
        drawn = curves(lines, across, up, written)
        if drawn:
            figures.append(
                f'<figure class="chart">{drawn}<figcaption>{escape(up)} against {escape(across)}'
                '<div class="told" aria-live="off"></div></figcaption></figure>'
            )
    return "".join(figures)


def _sights(found: Results) -> str:
    figures = []
    for family in found.families:
        picture = _safe_svg(family.sight_svg) or (
            f"<pre>{escape(family.sight_text)}</pre>" if family.sight_text else ""
        )
        if not picture:
            continue
        facts = [part for part in (family.rule, family.stack, family.decoder) if part]
        figures.append(
            f'<figure class="sight">{picture}<figcaption><strong>{escape(family.family)}</strong><br>'
            f"{escape(' · '.join(facts))}</figcaption></figure>"
        )
    if not figures:
        return ""
    return (
        "<section><h2>Who sees whom</h2><p>Row asks column; a filled cell may be seen. Drawn from the rule that the "
        f'training used.</p><div class="grid">{"".join(figures)}</div></section>'
    )


def _safe_svg(text: str) -> str:
    """The drawing if it is made of squares and labels only, ready to stand in a page; else nothing."""
    held = text.strip().replace(' xmlns="http://www.w3.org/2000/svg"', "")
    if not held.startswith("<svg") or not held.endswith("</svg>"):
        return ""
    tags = set(re.findall(r"</?\s*([A-Za-z!?][\w:-]*)", held))
    unsafe = re.search(r"\bon\w+\s*=|href|url\s*\(|javascript:|style\s*=|&#", held, flags=re.IGNORECASE)
    return "" if unsafe or not tags <= {"svg", "g", "path", "rect", "text", "title"} else held


def _films(found: Results) -> str:
    """How one passage came about in each family that wrote it."""
    figures = []
    for family in found.families:
        sample = next((one for one in family.samples if one.film), None)
        if sample is not None:
            before, _, after = sample.given.partition("[...]")
            film = drawn(sample.film, before, after, f"{family.family}, {sample.how}")
            said = f"<strong>{escape(family.family)}</strong> {escape(sample.how)}"
            figures.append(f"<figure>{film}<figcaption>{said}</figcaption></figure>")
    if not figures:
        return ""
    return (
        "<section><h2>How they wrote</h2><p>The same passage, round by round as it was written here; a place shines in "
        f'the round that wrote it.</p><div class="grid">{"".join(figures)}'
        "</div></section>"
    )


def _samples(found: Results) -> str:
    blocks = []
    for family in found.families:
        if family.samples:
            shown = "".join(_sample(sample) for sample in family.samples[:SHOWN_SAMPLES])
            blocks.append(f"<h3>{escape(family.family)}</h3>{shown}")
    if not blocks:
        return ""
    return (
        "<section><h2>What they wrote</h2><p>Held-out passages, the same for every family. Grey: what was given; "
        f"<mark>marked</mark>: what was written; below: what stood there.</p>{''.join(blocks)}</section>"
    )


def _sample(sample: Sample) -> str:
    before, gap, after = sample.given.partition("[...]")
    if sample.kind == "continuation" or not gap:  # the passage itself may hold such a sign
        before, after = sample.given.removesuffix("[...]"), ""
    elif sample.kind == "beginning":
        before, after = "", sample.given.removeprefix("[...]")
    how = " · ".join(part for part in (sample.kind, f"given {sample.side}" if sample.side else "", sample.how) if part)
    truth = f'<div class="small">stood there: {escape(sample.truth.translate(CONTROLS))}</div>' if sample.truth else ""
    return (
        f'<div class="sample"><div class="small">{escape(how)}</div><div class="passage">'
        f'<span class="given">{escape(before.translate(CONTROLS))}</span>'
        f"<mark>{escape(sample.written.translate(CONTROLS))}</mark>"
        f'<span class="given">{escape(after.translate(CONTROLS))}</span></div>{truth}</div>'
    )


def _floors(found: Results) -> str:
    if not found.floors:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{escape(floor.name)}</th><td>{escape(score.name.replace("_", " "))}</td>'
        f"<td>{'–' if score.value is None else f'{score.value:.3f}'}"
        f"{_between(score.low, score.high)}</td><td>{escape(score.unit)}</td></tr>"
        for floor in found.floors
        for score in floor.scores
    )
    return (
        "<section><h2>Floors</h2><p>What needs no training, or only counting. A family that does not clear its floor "
        "has learned nothing that can be told at this budget.</p>"
        f"{_listed('Floors', ('floor', 'score', 'value', 'unit'), lines)}</section>"
    )


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f'<span class="spread">{low:.3f}–{high:.3f}</span>'


def _rules(found: Results) -> str:
    """What may be compared, in the words of the scores that are here."""
    families = found.families
    exact = [family.family for family in families if (one := family.likelihood()) and one.class_ == "exact"]
    bounds = [family.family for family in families if (one := family.likelihood()) and one.class_ == "bound"]
    own = [(family.family, one.class_) for family in families if (one := family.own_scale()) and one.value is not None]
    parts = []
    if exact:
        parts.append(
            f"May be compared: bits per byte of {', '.join(exact)}. Each is the chain rule of one distribution over "
            "the same bytes, with as much context. In which direction a chain is multiplied out changes nothing."
        )
    if bounds:
        parts.append(f"With care: {', '.join(bounds)}. The figure is an upper bound (<=); the true value may be lower.")
    for class_ in dict.fromkeys(class_ for _, class_ in own):
        names = ", ".join(name for name, of_class in own if of_class == class_)
        parts.append(f"May not be compared: {names}, whose score is {class_}. {ALONE.get(class_, NO_TEXT)}")
    judges = [family.family for family in families if family.judges]
    if judges:
        parts.append(
            f"No likelihood and no curve of losses: {', '.join(judges)}. It labels tokens and gives no probability of "
            "any; what it has learned shows in its states (understanding)."
        )
    conditional = [
        family.family for family in families if (one := family.score("continuation_bits_per_byte")) and one.value
    ]
    if conditional:
        parts.append(
            f"Continuation: the same second halves given the same first halves, for {', '.join(conditional)}. Not to "
            "be set beside whole texts: a second half is easier once the first is known."
        )
    if found.numbers:
        parts += [
            "May be compared: nats per number of all families here. Each is the density of the same numbers, in the "
            "same unit, given all before them; it may be negative, and beside bits of a text it says nothing.",
            "Forecasts: of the same blocks, from the same past. MASE judges the middle, CRPS the whole distribution.",
        ]
    else:
        parts += [
            "Writing: only between families that were given the same side. What was given stands under the figure.",
            "Understanding: between all families; each is read by the same probe, its layer chosen on dev.",
            "Losses: each family is asked another question, so heights of curves are compared within a kind only.",
        ]
    parts.append("Speed and time: on this machine only.")
    seeds = max((family.seeds for family in families), default=1)
    parts.append(
        "One seed: the intervals cover which documents were drawn, not the luck of one training. --seeds 3 shows that."
        if seeds == 1
        else f"{seeds} seeds: the intervals cover the luck of training and which documents were drawn."
    )
    rules = sorted({score.context_rule for family in families for score in family.scores if score.context_rule})
    context = "".join(f"<li>{escape(rule)}</li>" for rule in rules if rule.startswith("each token"))
    held = f"<h3>Context of a scored token</h3><ul>{context}</ul>" if context else ""
    items = "".join(f"<li>{escape(part)}</li>" for part in parts)
    notes = _notes(found)
    return f"<section><h2>What may be compared, and why</h2><ul>{items}</ul>{held}{notes}</section>"


def _notes(found: Results) -> str:
    lines = [
        f"<li>{escape(family.family)}, {escape(score.name.replace('_', ' '))}: {escape(score.note)}</li>"
        for family in found.families
        for score in family.scores
        if score.note and (score.value is None or score.name in ("bits_per_byte", "understanding_accuracy"))
    ]
    return f"<h3>Notes to single scores</h3><ul>{''.join(lines)}</ul>" if lines else ""


def _origin(found: Results) -> str:
    training = "".join(_training(family) for family in found.families)
    headings = ("family", "learning rate", "best step on dev", "answers graded", "training time")
    blocks = (
        ("Corpus", found.corpus),
        ("Budget", found.budget),
        ("Tokenizer", found.tokenizer),
        ("Evaluation", found.evaluation),
        ("Machine", found.machine),
        ("Versions", found.versions),
    )
    held = "".join(f"<h3>{name}</h3>{_facts(record)}" for name, record in blocks if record)
    command = f"<h3>Command</h3><pre>{escape(found.command)}</pre>" if found.command else ""
    seed = f"<p>Seed {escape(found.seed)}.</p>" if found.seed else ""
    return (
        f"<section><h2>How this came about</h2>{command}{seed}<h3>Training</h3>"
        f"{_listed('Training', headings, training, plain=False)}{held}</section>"
    )


def _training(family: Family) -> str:
    rate = "–" if family.learning_rate is None else f"{family.learning_rate:g}"
    step = "–" if family.best_step is None else f"{family.best_step:,.0f}"
    words = (rate, step, count(family.asked), duration(family.seconds))
    return f'<tr><th scope="row">{escape(family.family)}</th>{"".join(f"<td>{word}</td>" for word in words)}</tr>'


def _facts(record: Mapping[str, Any]) -> str:
    items = "".join(
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{_fact(value)}</dd>" for name, value in record.items()
    )
    return f"<dl>{items}</dl>"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {held}" for name, held in value.items()))
    if isinstance(value, list | tuple):
        return escape(", ".join(str(held) for held in value))
    if isinstance(value, str) and "\n" in value:
        return f"<pre>{escape(value)}</pre>"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return escape(f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value))
