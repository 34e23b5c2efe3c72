#!/usr/bin/env python3
"""Makes the law firm's sample: files, entities, links, questions, and who may see what by the rules in plain Python
(an opinion of its own: it knows neither Cedar nor the product). Standard library only; always the same bytes.

    python3 examples/law-firm/make.py

All of it is invented. Some of it is broken on purpose: clients and matters that are not stored, a lawyer in a group
that is not, files under another client's matter, an amount that overflows. README.md lists them.
"""

import json
import pathlib
import random

HERE = pathlib.Path(__file__).resolve().parent
POLICIES = HERE.parent.parent / "policies" / "law-firm"
COLLECTION, DIMENSION, COUNT, SEED = "files", 16, 300, 20260115
PURPOSES = ["representation", "knowledge", "billing"]
PRACTICES = ["litigation", "corporate", "tax"]
COURTS = ["court:north", "court:south", "court:appeals"]

# Who: group, seniority, practice (or none), courts where admitted.
LAWYERS = {
    "adeyemi": ("litigation", 9, "litigation", ["court:north", "court:appeals"]),
    "brandt": ("litigation", 4, "litigation", ["court:north"]),
    "castillo": ("corporate", 8, "corporate", []),
    "dubois": ("corporate", 1, "corporate", ["court:south"]),
    "eriksen": ("tax", 6, "tax", ["court:south", "court:appeals"]),
    "fujita": ("tax", 0, None, []),
    "stray": ("dissolved", 7, "tax", ["court:north"]),  # the group is not stored
}
PARALEGALS = {"gupta": "adeyemi", "hansen": "castillo", "ivanov": "retired"}  # retired is not stored
ACCOUNTANT = "jones"
# Clients and who is conflicted out.
CLIENTS = {
    "northwind": ["castillo"],
    "harbour-trust": [],
    "meridian": ["brandt", "eriksen"],
    "oakfield": [],
    "quarry-lane": ["adeyemi"],
    "solstice": ["dubois", "fujita"],
}
MATTERS = {  # matter -> client, lead
    "m-101": ("northwind", "adeyemi"),
    "m-102": ("northwind", "brandt"),
    "m-201": ("harbour-trust", "castillo"),
    "m-202": ("harbour-trust", "eriksen"),
    "m-301": ("meridian", "castillo"),
    "m-401": ("oakfield", "adeyemi"),
    "m-402": ("oakfield", "eriksen"),
    "m-501": ("quarry-lane", "brandt"),
    "m-601": ("solstice", "castillo"),
    "m-602": ("solstice", "eriksen"),
}
LINKS = [  # who (a lawyer, a paralegal or a group) works on what
    ("Lawyer", "adeyemi", "m-101"),
    ("Lawyer", "adeyemi", "m-501"),  # linked by mistake: the wall holds
    ("Group", "litigation", "m-102"),
    ("Group", "corporate", "m-201"),
    ("Lawyer", "eriksen", "m-202"),
    ("Lawyer", "castillo", "m-301"),
    ("Group", "litigation", "m-401"),
    ("Lawyer", "eriksen", "m-402"),
    ("Lawyer", "fujita", "m-402"),
    ("Group", "corporate", "m-601"),
    ("Lawyer", "eriksen", "m-602"),
    ("Paralegal", "gupta", "m-101"),
    ("Paralegal", "hansen", "m-301"),
    ("Lawyer", "stray", "m-402"),
]
SUBJECTS = ["breach of contract", "a lease", "an option plan", "a patent licence", "import duties", "a merger",
            "an arbitration clause", "late delivery", "a guarantee", "the transfer of a business"]


def main():
    rng = random.Random(SEED)
    records = [record(rng, n) for n in range(COUNT)]
    write_lines("records.ndjson", records)
    write_list(HERE / "entities.json", entities())
    write_list(POLICIES / "links.json", links())
    write_list(HERE / "callers.json", callers())
    write_lines("queries.ndjson", ({"id": f"q-{n:02}", "text": f"What do we have on {s}?", "vector": vector(rng)}
                                   for n, s in enumerate(SUBJECTS)))
    write_list(HERE / "allowed.json", allowed(records))
    settings = {"dimension": DIMENSION, "metric": "euclidean", "subject_attribute": "client"}
    (HERE / "collection.json").write_text(json.dumps(settings) + "\n", "utf-8", newline="\n")


# ---- the rules in words ----

def may_see(caller, purpose, r):
    """Whether `caller` may see the record, asked from 127.0.0.1 in this decade."""
    kind, name = caller
    a, tags = r["attributes"], r.get("tags", {})
    client, matter = name_of(a.get("client")), name_of(a.get("matter"))
    author, level = name_of(a["author"]), name_of(a["level"])
    lawyer, paralegal = kind == "Lawyer", kind == "Paralegal"
    group = group_of(caller)
    groups = {group, "firm"}
    linked = [m for k, n, m in LINKS if (k, n) == caller or (k == "Group" and n in groups)]
    placed = [p["id"] for p in r["parents"]]

    # What is read and not stored, or errs, denies.
    if group == "dissolved":
        return False
    if (lawyer or paralegal) and client and client not in CLIENTS:
        return False
    if client and matter and matter not in MATTERS:
        return False
    if set(linked) - set(placed) and any(m not in MATTERS for m in placed):
        return False  # whether the record is in the other linked matters cannot be told

    # Prohibitions.
    own = lawyer and author == name
    conflicted = CLIENTS.get(client, [])
    if (lawyer and name in conflicted) or (paralegal and PARALEGALS[name] in conflicted):
        return False
    if ("/privileged/" in a["path"] or level == "privileged") and not lawyer:
        return False
    if year(a.get("embargo_until")) > 2090 and not own:
        return False
    if 0 < year(a.get("keep_until")) < 2025:
        return False
    if "data_room" in a and value_of(a["data_room"]) != "127.0.0.0/8":
        return False
    if tags.get("status") in ("draft", "withdrawn") and not own:
        return False
    if {"takeover", "listing"} & set(a["topics"]) and group != "corporate":
        return False
    if a["pages"] > 400 and not (lawyer and LAWYERS[name][1] >= 2):
        return False
    if client and matter and MATTERS[matter][0] != client:
        return False

    # Grants.
    if purpose == "representation" and set(linked) & set(placed):
        return True
    if own:
        return True
    if paralegal and purpose == "representation" and author == PARALEGALS[name] and a["kind"] in ("memo", "filing", "letter"):
        return True
    if a["path"].startswith("precedents/") and not client and float(value_of(a.get("merit")) or 0) >= 0.5:
        return True
    if lawyer and purpose == "knowledge" and tags.get("practice") and tags.get("practice") == LAWYERS[name][2]:
        if year(a["filed_at"]) < 2024 and level not in ("privileged", "secret"):
            return True
    if lawyer and level == "public" and "docket" in a.get("filing", {}) and a["filing"]["court"] in LAWYERS[name][3]:
        return True
    return kind == "Accountant" and a["kind"] == "invoice" and a.get("billed_cents", 10**18) * 100 < 100_000_000


def group_of(caller):
    kind, name = caller
    return LAWYERS[name][0] if kind == "Lawyer" else {"Paralegal": "staff", "Accountant": "firm"}[kind]


def year(value):
    return int(value_of(value)[:4]) if value else 0


def allowed(records):
    for caller in everybody():
        for purpose in PURPOSES:
            ids = [r["id"] for r in records if may_see(caller, purpose, r)]
            yield {"caller": uid(*caller), "purpose": purpose, "allowed": ids}


# ---- files ----

def record(rng, n):
    matter = rng.choice(sorted(MATTERS))
    client, lead = MATTERS[matter]
    kind = rng.choice(["memo", "memo", "letter", "filing", "contract", "invoice", "minutes"])
    level = rng.choice(["public", "firm", "firm", "firm", "privileged", "secret"])
    author = rng.choice([lead, lead, lead] + sorted(LAWYERS))
    subject = rng.choice(SUBJECTS)
    practice = rng.choice(PRACTICES)
    a = {
        "client": ref("Firm::Client", client),
        "matter": ref("Firm::Matter", matter),
        "author": ref("Lawyer", author),
        "path": f"clients/{client}/{matter}/{kind}s/{n:04}.txt",
        "kind": kind,
        "level": ref("Confidentiality", level),
        "filed_at": datetime(rng.randint(2012, 2021), rng),
        "topics": sorted(rng.sample(["tax", "labour", "property", "competition", "insurance"], rng.randint(0, 3))),
        "pages": rng.randint(1, 120),
    }
    parents, tags = [matter], {}
    if rng.random() < 0.6:
        tags["practice"] = practice
    if rng.random() < 0.8:
        tags["status"] = rng.choice(["final", "final", "final", "final", "draft", "withdrawn"])
    if kind == "invoice":
        a["billed_cents"] = rng.choice([12_500, 480_000, 999_999, 1_000_000, 2_750_000])
    if kind == "filing":
        a["filing"] = {"court": rng.choice(COURTS)}
        if rng.random() < 0.8:
            a["filing"]["docket"] = f"{rng.randint(100, 999)}/{rng.randint(12, 21)}"
    special(rng, n, a, parents, tags)
    body = f"{kind.capitalize()} on {subject}, number {n}. Prepared by {author} for the file."
    out = {
        "id": f"file-{n:04}",
        "document": a["path"].rsplit("/", 1)[0].replace("/", "-"),
        "vector": vector(rng),
        "text": body,
        "attributes": a,
        "parents": [uid("Firm::Matter", m) for m in parents],
    }
    if tags:
        out["tags"] = tags
    return out


def special(rng, n, a, parents, tags):
    """Every so often something that a policy is about, or that is wrong."""
    match n % 25:
        case 0:
            a["path"] = f"clients/{name_of(a['client'])}/privileged/{n:04}.txt"
        case 1 | 13:
            a["embargo_until"] = datetime(rng.choice([2016, 2020, 2097, 2099]), rng)
        case 2:
            a["keep_until"] = datetime(rng.choice([2019, 2023, 2098]), rng)
        case 3:
            a["data_room"] = extension("ip", rng.choice(["127.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]))
        case 4 | 14 | 15:
            for name in ("client", "matter"):
                del a[name]
            parents.clear()
            a["path"] = f"precedents/{a['kind']}s/{n:04}.txt"
            if n % 25 != 15:
                a["merit"] = extension("decimal", rng.choice(["0.25", "0.4999", "0.5", "0.50", "0.9"]))
        case 5:
            a["topics"] = sorted(a["topics"] + [rng.choice(["takeover", "listing"])])
        case 6:
            a["pages"] = rng.choice([400, 401, 900])
        case 7:  # under another client's matter
            a["client"] = ref("Firm::Client", "oakfield" if name_of(a["client"]) != "oakfield" else "meridian")
        case 8:  # a client who is not stored
            del a["matter"]
            a["client"] = ref("Firm::Client", "unknown")
            if n % 50 == 8:
                a["kind"], a["billed_cents"] = "invoice", 12_500
        case 9:  # a matter that is not stored
            a["matter"] = ref("Firm::Matter", "m-999")
            parents[:] = ["m-999"]
        case 10:  # placed in a matter that is not stored, and says so nowhere else
            del a["matter"]
            parents.append("m-999")
        case 11:
            a["kind"], a["billed_cents"] = "invoice", rng.choice([9_000_000_000_000_000_000, 5_000, 999_999])
        case 12:  # written for a later century, by the archive's clock
            a["filed_at"] = datetime(2098, rng)
            tags["practice"] = rng.choice(PRACTICES)
        case 16:  # two matters
            parents[:] = sorted({*parents, "m-402"})
        case 17:  # in no matter's folder
            parents.clear()


def entities():
    yield entity("Group", "firm")
    for g in PRACTICES + ["staff"]:
        yield entity("Group", g, parents=[("Group", "firm")])
    for name, (group, seniority, practice, courts) in LAWYERS.items():
        tags = {court: str(2000 + seniority) for court in courts}
        if practice:
            tags["practice"] = practice
        yield entity("Lawyer", name, {"seniority": seniority}, [("Group", group)], tags)
    for name, lawyer in PARALEGALS.items():
        yield entity("Paralegal", name, {"supervisor": ref("Lawyer", lawyer)}, [("Group", "staff")])
    yield entity("Accountant", ACCOUNTANT, parents=[("Group", "firm")])
    yield entity("Librarian", "desk")
    for name, conflicted in CLIENTS.items():
        yield entity("Firm::Client", name, {"conflicted": [ref("Lawyer", x) for x in conflicted]})
    for name, (client, lead) in MATTERS.items():
        yield entity("Firm::Matter", name, {"client": ref("Firm::Client", client), "lead": ref("Lawyer", lead)})


def links():
    for kind, name, matter in LINKS:
        values = {"?principal": uid(kind, name), "?resource": uid("Firm::Matter", matter)}
        yield {"template": "matter-access", "id": f"matter-access-{name}-{matter}", "values": values}


def everybody():
    for name in LAWYERS:
        yield "Lawyer", name
    for name in PARALEGALS:
        yield "Paralegal", name
    yield "Accountant", ACCOUNTANT


def callers():
    for caller in everybody():
        yield {"caller": uid(*caller), "purposes": PURPOSES}


# ---- forms: Cedar's explicit JSON ----

def uid(kind, name):
    return {"type": kind, "id": name}


def ref(kind, name):
    return {"__entity": uid(kind, name)}


def extension(function, argument):
    return {"__extn": {"fn": function, "arg": argument}}


def datetime(year, rng):
    return extension("datetime", f"{year}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:30:00Z")


def entity(kind, name, attrs=None, parents=(), tags=None):
    out = {"uid": uid(kind, name), "attrs": attrs or {}, "parents": [uid(*p) for p in parents]}
    return {**out, "tags": tags} if tags else out


def name_of(reference):
    return reference["__entity"]["id"] if reference else None


def value_of(extension):
    return extension["__extn"]["arg"] if extension else None


def vector(rng):
    return [round(rng.gauss(0, 1), 4) for _ in range(DIMENSION)]


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_lines(name, values):
    (HERE / name).write_text("".join(compact(v) + "\n" for v in values), "utf-8", newline="\n")


def write_list(path, values):
    path.write_text("[\n" + ",\n".join(compact(v) for v in values) + "\n]\n", "utf-8", newline="\n")


if __name__ == "__main__":
    main()
