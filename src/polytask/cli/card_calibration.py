"""The part of an adapter's card about its probabilities: calibration errors, reliability diagram, thresholds.

``result`` of a header is free JSON and may come from anyone, so values that training would not write are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.adapters.header import Header

ERRORS = {"ece": "expected calibration error", "brier": "Brier score"}
BAR = 20


def calibration_facts(header: Header) -> list[tuple[str, str]]:
    """Names and values for the panel and the table."""
    said = _object(header.result.get("calibration"))
    facts = [("calibration", _map_in_words(header.calibration)), *_errors(said), ("interval", _coverage(said))]
    facts += [("thresholds", _thresholds(header)), ("thresholds", _held(_object(header.result.get("thresholds"))))]
    facts += [("none of these", _none(header)), ("none of these", _none_held(_object(header.result.get("none"))))]
    notes = said.get("notes")
    facts += [("calibration", note) for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return [(name, value) for name, value in facts if value]


def reliability_diagram(header: Header) -> list[str]:
    """Markdown: the share of right answers in each bin of probability, before and after calibration."""
    said = _object(header.result.get("calibration"))
    before, after = (_bins(_object(said.get(name))) for name in ("before", "after"))
    if not after:
        return []
    lines = ["", "## Reliability", "", f"Of the probabilities of {_of_rows(said)}: the share of the answers that is"]
    lines += ["right, beside the mean probability. Where probabilities can be believed, the two are alike.", ""]
    for name, bins in (("Before calibration", before), ("After calibration", after)):
        if bins:
            lines += [f"{name}:", "", "| probability | right | answers | |", "|---:|---:|---:|---|"]
            lines += [f"| {p:.3f} | {right:.3f} | {rows} | `{_bar(p, right)}` |" for rows, p, right in bins] + [""]
    return [*lines[:-1], *_curve(said)]


def _curve(said: Mapping[str, Any]) -> list[str]:
    """Markdown: the accuracy of the most probable answers."""
    given = said.get("curve")
    points = [own for own in given if _is_estimate(own)] if isinstance(given, list) else []
    if not points:
        return []
    lines = [
        "",
        "## Coverage and accuracy",
        "",
        "Accuracy when answers below a probability are left out.",
        "",
    ]
    lines += ["| answered | accuracy | from probability |", "|---:|---:|---:|"]
    return lines + [f"| {part:.0%} | {right:.3f} | {least:.3f} |" for part, right, least in points]


def _bar(probability: float, right: float) -> str:
    """``██████|··``: filled up to the share of right answers, with a line at the probability."""
    cells = ["█" if cell < round(right * BAR) else "·" for cell in range(BAR)]
    cells.insert(min(max(round(probability * BAR), 0), BAR), "|")
    return "".join(cells)


def _map_in_words(given: Mapping[str, Any] | None) -> str:
    """``temperature 1.632, fitted on 200 validation rows``."""
    if given is None:
        return ""
    template = {
        "temperature": "temperature {temperature:.3f}, fitted on {rows:,} validation rows",
        "platt": "a slope and an offset for each label, fitted on {rows:,} validation rows",
        "conformal": "± {radius:.4g} holds the truth in {level:.0%} of new rows, by {rows:,} validation rows",
    }[given["kind"]]
    return template.format(**given)


def _thresholds(header: Header) -> str:
    """``precision 0.95: billing from 0.71, spam from 0.93, other never``."""
    given = header.thresholds
    if given is None:
        return ""
    goal = given["goal"] if given["target"] is None else f"{given['goal']} {given['target']}"
    values = [("never" if value is None else f"from {value:.3f}") for value in given["values"]]
    if len(set(values)) == 1:
        return f"{goal}: answered {values[0]}, by {given['rows']:,} validation rows"
    each = ", ".join(f"{label} {value}" for label, value in zip(header.head.labels, values, strict=True))
    return f"{goal}: {each}; by {given['rows']:,} validation rows"


def _held(said: Mapping[str, Any]) -> str:
    """``on 400 test rows coverage 0.812 (0.77 to 0.85), precision …``."""
    test = _object(said.get("test"))
    shares = {name: test.get(name) for name in ("coverage", "precision", "recall")}
    shown = [f"{n} {s[0]:.3f} ({s[1]:.3f} to {s[2]:.3f})" for n, s in shares.items() if s and _is_estimate(s)]
    return f"on {test.get('rows')} test rows {', '.join(shown)}" if shown else ""


def _none(header: Header) -> str:
    """``by mahalanobis, with 5% false alarms on 200 validation rows``."""
    given = header.none
    if given is None:
        return ""
    return f"by {given['score']}, with {given['false_alarm']:.3g} false alarms by {given['rows']:,} validation rows"


def _none_held(said: Mapping[str, Any]) -> str:
    """``on test rows false alarms 0.051 (0.03 to 0.08), found 0.71 (0.62 to 0.79)``."""
    shares = {name: said.get(name) for name in ("false_alarms", "found")}
    shown = [f"{n} {s[0]:.3f} ({s[1]:.3f} to {s[2]:.3f})" for n, s in shares.items() if s and _is_estimate(s)]
    return f"on test rows {', '.join(shown)}".replace("_", " ") if shown else ""


def _errors(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for error, name in ERRORS.items():
        sides = [_object(said.get(side)).get(error) for side in ("before", "after")]
        if all(map(_is_estimate, sides)):
            shown = [f"{side[0]:.4f} ({side[1]:.4f} to {side[2]:.4f})" for side in sides if side]
            found.append((name, f"{shown[0]} before calibration, {shown[1]} after, on {_of_rows(said)}"))
    return found


def _coverage(said: Mapping[str, Any]) -> str:
    share = said.get("coverage")
    if not _is_estimate(share) or share is None:
        return ""
    return f"held the truth in {share[0]:.1%} ({share[1]:.1%} to {share[2]:.1%}) of {_of_rows(said)}"


def _of_rows(said: Mapping[str, Any]) -> str:
    which = "test rows" if said.get("on") == "test" else "validation rows, each calibrated by the others"
    return f"{said['rows']:,} {which}" if isinstance(said.get("rows"), int) else which


def _bins(side: Mapping[str, Any]) -> list[list[float]]:
    bins = side.get("bins")
    return [own for own in bins if _is_estimate(own) and own] if isinstance(bins, list) else []


def _is_estimate(given: Any) -> bool:
    """Whether ``given`` is a list of three numbers."""
    return isinstance(given, list) and len(given) == 3 and all(type(each) in (int, float) for each in given)


def _object(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}
