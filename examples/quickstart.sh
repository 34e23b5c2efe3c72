#!/usr/bin/env bash
# From nothing to a question answered, with curl: init, serve, policies, entities, a collection, keys, records, search,
# read, audit. Needs curl and python3 (to put JSON together). Everything is in a folder that is removed at the end.
#
#     cargo build --release && examples/quickstart.sh
set -euo pipefail
cd "$(dirname "$0")/.."

wardkeep=${WARDKEEP:-target/release/wardkeep}
work=$(mktemp -d)
server=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
step() { printf '\n== %s\n' "$*"; }

# Keys go into header files that only you can read: an argument is visible to everybody on the machine.
umask 077
remember() { python3 -c 'import json, sys; print("Authorization: Bearer " + json.load(sys.stdin)["api_key"])' > "$work/$1.key"; }
as() { # as NAME METHOD PATH [curl's options]: one request by the caller whose key is NAME
  local name=$1 method=$2 path=$3
  shift 3
  curl -sS --fail-with-body -X "$method" -H "@$work/$name.key" "$@" "$url$path"
}
json='Content-Type: application/json'

step "init: a key ring and a store; the first administrator's key is shown once"
head -c 24 /dev/urandom | base64 > "$work/passphrase"
"$wardkeep" init --data "$work/data" --passphrase-file "$work/passphrase" --json | remember root

step "serve"
"$wardkeep" serve --data "$work/data" --passphrase-file "$work/passphrase" --listen 127.0.0.1:0 > "$work/log" 2>&1 &
server=$!
until grep -q 'listening on http' "$work/log"; do
  kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
  sleep 0.1
done
url=$(sed -n 's/.*listening on \(http[^ ]*\).*/\1/p' "$work/log" | head -n 1)
curl -sS "$url/readyz" > "$work/ready"
echo "$url"

step "policies: the clinical bundle in place of the starter, which lets nobody retrieve"
version=$(as root GET /v1/policies | python3 -c 'import json, sys; print(json.load(sys.stdin)["version"])')
python3 examples/bundle.py policies/clinical "the sample ward" > "$work/bundle.json"
as root PUT /v1/policies -H "$json" -H "If-Match: \"$version\"" --data-binary "@$work/bundle.json"

step "entities: people, care teams, patients"
as root PUT /v1/entities -H "$json" --data-binary @examples/ward/entities.json

step "a collection"
as root PUT /v1/collections/ward -H "$json" --data-binary @examples/ward/collection.json

step "keys: a feed that may write records, a nurse who may ask for treatment, an auditor"
as root POST /v1/callers -H "$json" -d '{"type": "Service", "id": "record-feed"}' | remember feed
as root POST /v1/callers -H "$json" -d '{"type": "Clinician", "id": "m-nurse-003", "purposes": ["treatment"]}' | remember nurse
as root POST /v1/callers -H "$json" -d '{"type": "Auditor", "id": "auditor"}' | remember auditor

step "records: 2,000, streamed; what is accepted is durable and can be found"
as feed PUT /v1/collections/ward/records -H 'Content-Type: application/x-ndjson' --data-binary @examples/ward/records.ndjson

step "search: the nurse asks a question; only patients of her care team come back"
python3 - > "$work/question.json" <<'PYTHON'
import json
question = json.loads(open("examples/ward/queries.ndjson", encoding="utf-8").readline())
print(json.dumps({"vector_base64": question["vector_base64"], "limit": 3, "purpose": "treatment", "include": ["text"]}))
PYTHON
as nurse POST /v1/collections/ward/search -H "$json" --data-binary "@$work/question.json" | python3 -m json.tool

step "filter: of what she may see, the progress notes of the last ten years"
python3 - "$work/question.json" > "$work/filtered.json" <<'PYTHON'
import json, sys
question = json.load(open(sys.argv[1], encoding="utf-8"))
question["filter"] = 'resource.doc_type == "progress_note" && resource.created_at > context.now.offset(duration("-3650d"))'
print(json.dumps(question))
PYTHON
as nurse POST /v1/collections/ward/search -H "$json" --data-binary "@$work/filtered.json" | python3 -m json.tool

step "read: a record of somebody else's patient is not there, in the same words as one that does not exist"
for id in rec-000027 rec-999999; do
  status=$(curl -sS -o "$work/answer" -w '%{http_code}' -H "@$work/nurse.key" "$url/v1/collections/ward/records/$id?purpose=treatment")
  echo "$id: $status $(cat "$work/answer")"
done

step "audit: what the auditor sees of it, newest entries"
as auditor GET '/v1/audit?limit=1000' | python3 -c 'import json, sys
for entry in json.load(sys.stdin)["entries"][-4:]: print(json.dumps(entry))'

step "audit verify: offline, once the server has stopped"
kill "$server" && wait "$server" || true
server=
"$wardkeep" audit verify --data "$work/data" --passphrase-file "$work/passphrase"
