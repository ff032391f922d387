"""The part of an adapter's card about probabilities: calibration errors, reliability diagram, thresholds.

``result`` of a header is free JSON and may come from anyone, so values that are not in the form that training writes
are left out.
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
    saved = _object(header.result.get("calibration"))
    facts = [
        ("calibration", _calibration_in_words(header.calibration)),
        *_errors(saved),
        ("interval", _coverage(saved)),
    ]
    facts += [
        ("thresholds", _thresholds(header)),
        ("thresholds", _threshold_scores(_object(header.result.get("thresholds")))),
    ]
    facts += [
        ("none of these", _detector_in_words(header)),
        ("none of these", _detector_scores(_object(header.result.get("none")))),
    ]
    notes = saved.get("notes")
    facts += [("calibration", note) for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return [(name, value) for name, value in facts if value]


def reliability_diagram(header: Header) -> list[str]:
    """Markdown: the share of right answers in each bin of probability, before and after calibration."""
    saved = _object(header.result.get("calibration"))
    before, after = (_bins(_object(saved.get(name))) for name in ("before", "after"))
    if not after:
        return []
    lines = [
        "",
        "## Reliability",
        "",
        f"For {_of_rows(saved)}: the mean probability in each bin, and the share of answers",
    ]
    lines += ["that are right. For reliable probabilities, the two are about equal.", ""]
    for name, bins in (("Before calibration", before), ("After calibration", after)):
        if bins:
            lines += [f"{name}:", "", "| probability | right | answers | |", "|---:|---:|---:|---|"]
            lines += [f"| {p:.3f} | {right:.3f} | {rows} | `{_bar(p, right)}` |" for rows, p, right in bins] + [""]
    return [*lines[:-1], *_curve(saved)]


def _curve(saved: Mapping[str, Any]) -> list[str]:
    """Markdown: the accuracy of the most probable answers."""
    given = saved.get("curve")
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
    """``██████|··``: filled to the share of right answers, with a line at the mean probability."""
    cells = ["█" if cell < round(right * BAR) else "·" for cell in range(BAR)]
    cells.insert(min(max(round(probability * BAR), 0), BAR), "|")
    return "".join(cells)


def _calibration_in_words(given: Mapping[str, Any] | None) -> str:
    """``temperature 1.632, fitted on 200 validation rows``."""
    if given is None:
        return ""
    template = {
        "temperature": "temperature {temperature:.3f}, fitted on {rows:,} validation rows",
        "platt": "a slope and an offset for each label, fitted on {rows:,} validation rows",
        "conformal": "± {radius:.4g} contains the truth for {level:.0%} of new rows; from {rows:,} validation rows",
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
        return f"{goal}: answered {values[0]}, chosen on {given['rows']:,} validation rows"
    each = ", ".join(f"{label} {value}" for label, value in zip(header.head.labels, values, strict=True))
    return f"{goal}: {each}; chosen on {given['rows']:,} validation rows"


def _threshold_scores(saved: Mapping[str, Any]) -> str:
    """``on 400 test rows coverage 0.812 (0.77 to 0.85), precision …``."""
    test = _object(saved.get("test"))
    shares = {name: test.get(name) for name in ("coverage", "precision", "recall")}
    shown = [f"{n} {s[0]:.3f} ({s[1]:.3f} to {s[2]:.3f})" for n, s in shares.items() if s and _is_estimate(s)]
    return f"on {test.get('rows')} test rows {', '.join(shown)}" if shown else ""


def _detector_in_words(header: Header) -> str:
    """``mahalanobis, false-alarm rate 0.05, chosen on 200 validation rows``."""
    given = header.none
    if given is None:
        return ""
    rate = f"false-alarm rate {given['false_alarm']:.3g}"
    return f"{given['score']}, {rate}, chosen on {given['rows']:,} validation rows"


def _detector_scores(saved: Mapping[str, Any]) -> str:
    """``on test rows false alarms 0.051 (0.03 to 0.08), found 0.71 (0.62 to 0.79)``."""
    shares = {name: saved.get(name) for name in ("false_alarms", "found")}
    shown = [f"{n} {s[0]:.3f} ({s[1]:.3f} to {s[2]:.3f})" for n, s in shares.items() if s and _is_estimate(s)]
    return f"on test rows {', '.join(shown)}".replace("_", " ") if shown else ""


def _errors(saved: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for error, name in ERRORS.items():
        sides = [_object(saved.get(side)).get(error) for side in ("before", "after")]
        if all(map(_is_estimate, sides)):
            shown = [f"{side[0]:.4f} ({side[1]:.4f} to {side[2]:.4f})" for side in sides if side]
            found.append((name, f"{shown[0]} before calibration, {shown[1]} after, on {_of_rows(saved)}"))
    return found


def _coverage(saved: Mapping[str, Any]) -> str:
    share = saved.get("coverage")
    if not _is_estimate(share) or share is None:
        return ""
    return f"contains the truth for {share[0]:.1%} ({share[1]:.1%} to {share[2]:.1%}) of {_of_rows(saved)}"


def _of_rows(saved: Mapping[str, Any]) -> str:
    which = "test rows" if saved.get("on") == "test" else "validation rows, each calibrated on the other folds"
    return f"{saved['rows']:,} {which}" if isinstance(saved.get("rows"), int) else which


def _bins(side: Mapping[str, Any]) -> list[list[float]]:
    bins = side.get("bins")
    return [own for own in bins if _is_estimate(own) and own] if isinstance(bins, list) else []


def _is_estimate(given: Any) -> bool:
    """Whether ``given`` is a list of three numbers."""
    return isinstance(given, list) and len(given) == 3 and all(type(each) in (int, float) for each in given)


def _object(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}
