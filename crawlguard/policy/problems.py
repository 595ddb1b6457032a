"""The ids of everything that can be wrong with a policy. Ids are stable: scripts, editors and the bad-policy corpus use them."""

from __future__ import annotations

from ..errors import Problem
from .nodes import Place

IDS = {
    "CG001": "a file cannot be read",
    "CG002": "the YAML is malformed",
    "CG003": "a key stands twice",
    "CG004": "an unknown key",
    "CG005": "a value of the wrong kind",
    "CG006": "a required key is missing",
    "CG007": "a value outside the allowed ones",
    "CG008": "a policy version that this release does not know",
    "CG009": "a name reserved for a later version",
    "CG010": "an include that finds nothing",
    "CG011": "an include that includes itself",
    "CG012": "a CIDR with host bits set",
    "CG013": "not an address or CIDR",
    "CG014": "not a duration",
    "CG015": "a number out of its range",
    "CG016": "a regular expression that RE2 refuses",
    "CG017": "a regular expression without the regex extra",
    "CG018": "an agent that nobody defines",
    "CG019": "an operator that no agent has",
    "CG020": "a network or network tag that nobody defines",
    "CG021": "a rule id used twice",
    "CG022": "an id that is not a plain name",
    "CG023": "a rule that can never be reached",
    "CG024": "a rule shadowed by an earlier one",
    "CG025": "a rule with no action, or with more than one",
    "CG026": "no ASN database for an asn condition",
    "CG027": "no country database for a country condition",
    "CG028": "an address database that cannot be used",
    "CG029": "disable names no included rule",
    "CG030": "an empty list or text",
    "CG031": "block_for without a rate condition",
    "CG032": "a status that does not fit the action",
    "CG033": "a header that cannot be sent",
    "CG034": "a path that does not start with / or *",
    "CG035": "a file that is too large or nested too deeply",
    "CG036": "an agent or network defined twice",
    "CG037": "a score condition that no weigh can ever satisfy",
    "CG038": "a duplicate entry in a list",
    "CG039": "a condition that can never hold",
    "CG040": "not an absolute URL",
    "CG041": "a rate that contradicts itself",
    "CG101": "a rule that is inactive because its data is missing",
    "CG102": "a policy without rules",
    "CG103": "a network that counts in part only, for want of an ASN database",
    "CG104": "a list of published addresses that has grown old",
    "CG105": "a document that says something else than the rules",
    "CG106": "a path or method that no request has",
}


def problem(id: str, place: Place, message: str, advice: str, *, severity: str = "error") -> Problem:
    """A Problem at a place; ``id`` must be one of IDS."""
    if id not in IDS:
        raise KeyError(id)
    return Problem(id=id, message=message, advice=advice, file=place.file, line=place.line, column=place.column, severity=severity)
