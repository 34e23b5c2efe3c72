#!/usr/bin/env python3
"""The rules of the sample ward in plain Python, written from the rules in words and not from the Cedar policies: the
second opinion that the golden files are held against. Knows neither Cedar nor the product.

    python3 policies/cases/rules.py matrix   print the matrix (matrix.txt is this, reviewed and committed)
    python3 policies/cases/rules.py check    hold matrix.txt, the cases and the ward's allowed.json against the rules
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
WARD = HERE.parent.parent / "examples" / "ward"

# ---- who may see a record ----

CARE_TEAM = {  # role -> the policy that says so
    "nurse": "nurse-care-team",
    "physician": "physician-care-team",
    "attending": "attending-care-team",
    "psychotherapist": "psychotherapist-care-team",
}
MAY_SEE_VIP = {"attending", "department_head", "privacy_officer"}


def on_the_care_team(role, purpose, patient, who):
    return role in CARE_TEAM and purpose == "treatment" and patient is not None and patient in who["assigned"]


def grants(role, purpose, record, who):
    """Names of the permits that hold."""
    found = set()
    if on_the_care_team(role, purpose, record["patient"], who):
        found.add(CARE_TEAM[role])
    if role == "department_head" and purpose == "operations" and record["department"] in who["departments"]:
        found.add("department-head")
    deidentified = record["doc_type"] == "research_deidentified" and record["patient"] is None
    if role == "researcher" and purpose == "research" and deidentified:
        found.add("researcher")
    if role == "privacy_officer" and purpose == "operations":
        found.add("privacy-officer")
    return found


def prohibitions(role, purpose, record, who, consents):
    """Names of the forbids that hold."""
    found = set()
    if record["doc_type"] == "psychotherapy_note" and record["author"] != who["name"]:
        found.add("psychotherapy-author-only")
    if record["doc_type"] == "substance_use" and role != "privacy_officer":
        consented = record["patient"] in consents
        if not (consented and on_the_care_team(role, purpose, record["patient"], who)):
            found.add("part2-consent")
    if record["sensitivity"] >= 3 and role not in MAY_SEE_VIP:
        found.add("vip-need-to-know")
    return found


# ---- who may do what else ----

WORK = {  # (caller, action) -> policy; what is not here is refused
    **{("root", a): "administration" for a in (
        "ManagePolicies", "ManageEntities", "ManageCollections", "ManageKeys", "ManageCallers", "ReadAudit", "Explain")},
    **{("root", a): "administration-upkeep" for a in ("Ingest", "Erase")},
    **{("auditor", a): "auditor" for a in ("ReadAudit", "ReviewBreakGlass", "Explain")},
    **{("privacy_officer", a): "privacy-officer-oversight" for a in ("ReadAudit", "ReviewBreakGlass", "Explain")},
    ("record-feed", "Ingest"): "record-feed",
    ("archive-feed", "Ingest"): "archive-feed-adds-only",
    ("care-team-feed", "ManageEntities"): "care-team-feed",
    ("registration-feed", "ManageEntities"): "registration-feed",
    ("retention", "Erase"): "retention-erase",
}
ONLY_TYPE = {"care-team-feed": "CareTeam", "registration-feed": "Patient"}

CLINICIAN, ADMINISTRATOR, AUDITOR, SERVICE = "Clinician", "Administrator", "Auditor", "Service"
EXPRESSIBLE = {  # action -> the types of caller that a policy can name at all
    **{a: {CLINICIAN} for a in ("Retrieve", "Read", "ReadVector", "Search", "BreakGlass")},
    "Export": {CLINICIAN, ADMINISTRATOR},
    **{a: {SERVICE, ADMINISTRATOR} for a in ("Erase", "Ingest", "ManageEntities")},
    **{a: {ADMINISTRATOR} for a in ("ManageCallers", "ManagePolicies", "ManageCollections", "ManageKeys")},
    **{a: {ADMINISTRATOR, AUDITOR, CLINICIAN} for a in ("ReadAudit", "Explain")},
    "ReviewBreakGlass": {AUDITOR, CLINICIAN},
}


def work(name, kind, action, context):
    """The verdict on a request that is not about reading a record, as the matrix writes it."""
    if kind not in EXPRESSIBLE[action]:
        return "never"
    if action == "Search":
        return "yes" if context.get("purpose") in ("treatment", "operations", "research") else "-"
    policy = WORK.get((name, action))
    if policy in ONLY_TYPE:
        wrote = context.get("operation") in ("create", "replace")
        return "yes" if wrote and context.get("entity_type") == ONLY_TYPE[policy] else "-"
    if policy == "archive-feed-adds-only":
        return "yes" if context.get("replaces") is False else "-"
    return "yes" if policy else "-"


# ---- reading Cedar's JSON form into the words above ----

def directory(entities):
    return {(e["uid"]["type"], e["uid"]["id"]): e for e in entities}


def person(caller, known):
    entity = known["Clinician", caller["id"]]
    team = entity["attrs"].get("care_team")
    assigned = known["CareTeam", team["id"]]["attrs"]["patients"] if team else []
    roles = [p["id"] for p in entity["parents"]]
    assert len(roles) <= 1, "the plain rules know one role a person"
    return (roles or [None])[0], {
        "name": caller["id"],
        "assigned": {p["id"] for p in assigned},
        "departments": {d["id"] for d in entity["attrs"]["departments"]},
    }


def plain(record, caller):
    a = record["attributes"]
    author = a["author"]["id"]
    return {
        "patient": a["patient"]["id"] if "patient" in a else None,
        "doc_type": a["doc_type"],
        "department": a["department"]["id"],
        "sensitivity": a["sensitivity"],
        "author": caller["id"] if author == "$caller" else author,
    }


def decide(caller, purpose, record, known):
    """(allowed, names of the policies that decide it)"""
    role, who = person(caller, known)
    consents = {i for (t, i), e in known.items() if t == "Patient" and e["attrs"]["part2_consent"]}
    seen = plain(record, caller)
    no = prohibitions(role, purpose, seen, who, consents)
    yes = grants(role, purpose, seen, who)
    return (False, no) if no else (bool(yes), yes)


# ---- the matrix ----

SHORT = {"psychotherapy-author-only": "author", "part2-consent": "part2", "vip-need-to-know": "vip"}


def cell(allowed, by):
    if allowed:
        return "yes"
    return "NO " + "+".join(SHORT[name] for name in sorted(by, key=list(SHORT).index)) if by else "-"


def matrix():
    world = json.loads((HERE / "world.json").read_text("utf-8"))
    known = directory(world["entities"])
    out = [
        "# Who may see what: role x purpose x kind of record, then caller x request. Policies: ../clinical.",
        "# yes   permitted                 -      no policy permits it",
        "# NO x  prohibited, by: author = psychotherapy-author-only, part2 = part2-consent, vip = vip-need-to-know",
        "# never the schema has no way to permit it",
        "# Kinds, roles, callers and requests are in world.json; README.md says how this page is made and checked.",
    ]
    for purpose in world["purposes"]:
        rows = [["may ask (Search)"] + ["yes" if purpose != "payment" else "-"] * len(world["roles"])]
        for kind in world["kinds"]:
            verdicts = [cell(*decide(c, purpose, kind["record"], known)) for c in world["roles"].values()]
            rows.append([kind["kind"]] + verdicts)
        out += ["", f"## purpose: {purpose}"] + table(["Retrieve, Read"] + list(world["roles"]), rows)
    rows = []
    for r in world["requests"]:
        verdicts = [work(n, c["type"], r["action"], r.get("context", {})) for n, c in world["callers"].items()]
        rows.append([r["request"]] + verdicts)
    out += ["", "## requests that are not about seeing a record"] + table(["request"] + list(world["callers"]), rows)
    return "\n".join(out) + "\n"


def table(head, rows):
    # At least so wide, so that one changed cell is one changed line.
    widths = [max([56 if i == 0 else 12] + [len(r[i]) for r in [head] + rows]) for i in range(len(head))]
    line = lambda r: " | ".join(v.ljust(w) for v, w in zip(r, widths)).rstrip()
    return [line(head), "-+-".join("-" * w for w in widths)] + [line(r) for r in rows]


# ---- checks ----

def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def check_matrix():
    assert (HERE / "matrix.txt").read_text("utf-8") == matrix(), "matrix.txt is not what the rules say"
    return "matrix.txt agrees"


def check_ward():
    known = directory(json.loads((WARD / "entities.json").read_text("utf-8")))
    allowed = json.loads((WARD / "allowed.json").read_text("utf-8"))
    records, users = lines(WARD / "records.ndjson"), json.loads((WARD / "users.json").read_text("utf-8"))
    for user in users:
        mine = [r["id"] for r in records if decide(user["caller"], user["purpose"], r, known)[0]]
        assert mine == allowed[user["caller"]["id"]], user
    return f"allowed.json agrees for {len(users)} people and {len(records)} records"


def check_cases():
    """Cases about seeing a record for which nothing is missing; plain rules know no more."""
    world = json.loads((HERE / "world.json").read_text("utf-8"))
    wards = {
        "cases": (world["entities"], {k["record"]["id"]: k["record"] for k in world["kinds"]}),
        "ward": (
            json.loads((WARD / "entities.json").read_text("utf-8")),
            {r["id"]: r for r in lines(WARD / "records.ndjson")},
        ),
    }
    checked = skipped = 0
    for path in sorted(HERE.glob("*.json")):
        page = json.loads(path.read_text("utf-8"))
        for case in page.get("cases", []):
            plain_words = path.name != "absent.json" and case["action"] in ("Retrieve", "Read")
            if not plain_words or case["expect"] == "never":
                skipped += 1
                continue
            entities, records = wards[page["world"]]
            known = directory(entities + case.get("entities", []))
            record = case["record"]
            record = records[record] if isinstance(record, str) else record
            allowed, by = decide(case["caller"], case["purpose"], record, known)
            where = f"{path.name}: {case['name']}"
            assert allowed == (case["expect"] == "allow"), where
            assert "by" not in case or sorted(by) == sorted(case["by"]), f"{where}: {sorted(by)}"
            checked += 1
    return f"{checked} cases agree, {skipped} are beyond the plain rules"


if __name__ == "__main__":
    if sys.argv[1:] == ["matrix"]:
        sys.stdout.write(matrix())
    elif sys.argv[1:] == ["check"]:
        for check in (check_matrix, check_ward, check_cases):
            print(check())
    else:
        sys.exit(__doc__)
