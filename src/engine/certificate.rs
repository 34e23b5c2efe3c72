//! A certificate of erasure: what was erased, when, by which entry of the audit log, and what the law keeps; signed by the key that signs
//! the log, so that whoever has its public key can verify it without the store.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Erased, Erasure, Wardkeep, recover::origin_line};
use crate::{crypto, model::CollectionName};

/// What is signed begins so: no signature of this kind is one of a head of the log, nor the other way round.
const FORM: &str = "wardkeep/erasure/1";

/// What stays, and why.
const KEPT: &str = "The audit log keeps, as the law requires, entries that name the records and the patient by id, and this erasure. They are sealed, \
                    readable only to those who may read the audit, and hold no text, no vector and no attribute. The ledger of erasures keeps keyed \
                    names of what went, so that no restore brings it back; without the keys of this store they say nothing. Whatever else names the \
                    patient (other entities, policies and their earlier versions, API keys) stays: the answer of the erasure tells of it as far as \
                    whoever erased may know.";
/// What was done, in words.
const DONE: &str = "The data keys of what was erased are destroyed, and the keys that wrapped them are renewed: no page of this store and no copy of it \
                    opens what was erased with any key that the store has. A copy of the key file from before, together with what opens it, still would; and so would an escrow from before, which \
                    `last_escrow_at` tells the last of that this store knows, until it is destroyed. A restore that is given the ledger brings nothing of it back. All this is said of the named collection alone: records elsewhere are \
                    counted as far as whoever erased may erase there.";

/// What is certified, as it is signed: the bytes of its compact JSON form.
pub(super) struct Statement(Json);

impl Statement {
    pub(super) fn of(
        engine: &Wardkeep,
        collection: &CollectionName,
        erasure: &Erasure,
        erased: &Erased,
        audit_entry: u64,
    ) -> Self {
        let what = match erasure {
            Erasure::Records(ids) => json!({"records": ids.iter().map(|id| id.as_str()).collect::<Vec<_>>()}),
            Erasure::Document(document) => json!({"document": document.as_str()}),
            Erasure::Patient(id, _) => json!({"patient": id}),
        };
        let entities = erased.still_named.as_ref().and_then(|named| named.entities.as_ref());
        let ledger = engine.store.ledger_state();
        Self(json!({
            "form": FORM,
            "store": origin_line(&engine.store),
            "issued_at": engine.clock.now().rfc3339(),
            "collection": collection.as_str(),
            "erased": what,
            "records_erased": erased.erased,
            "records_missing": erased.missing,
            "holds": erased.holds,
            "records_sealed_anew": erased.resealed,
            "own_entity_stays": entities.map(|named| named.own_entity),
            "records_elsewhere": erased.still_named.as_ref().map(|named| &named.elsewhere),
            "records_that_refer": entities.map(|named| named.records),
            "key_file_generation": engine.store.ring().generation(),
            "audit_entry": audit_entry,
            "ledger_entries": ledger.entries,
            "ledger_copy": ledger.copy,
            "last_escrow_at": ledger.last_escrow.map(|at| at.rfc3339()),
            "done": DONE,
            "kept": KEPT,
        }))
    }
}

/// A statement and its signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// What is certified.
    pub statement: Json,
    /// The key that signed it, in hex: compare it with the one that `init` printed.
    pub public_key: String,
    /// Ed25519 over the form's name, a newline, and the statement as compact JSON in the order of its fields; base64.
    pub signature: String,
}

/// Why a certificate does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCertified {
    /// It is not of this form.
    #[error("this is not a certificate of erasure that this version knows")]
    Form,
    /// It was signed by another key, or changed.
    #[error("the signature does not hold: the certificate was changed, or another key signed it")]
    Signature,
}

impl Certificate {
    /// Holds it against a public key that is known from elsewhere.
    pub fn verify(&self, public_key: &[u8; 32]) -> Result<(), NotCertified> {
        if self.statement.get("form").and_then(Json::as_str) != Some(FORM) {
            return Err(NotCertified::Form);
        }
        let signature = STANDARD.decode(&self.signature).map_err(|_| NotCertified::Form)?;
        let held = crypto::verifies(public_key, &signed(&self.statement), &signature);
        if held { Ok(()) } else { Err(NotCertified::Signature) }
    }
}

impl Wardkeep {
    pub(super) fn certify(&self, statement: Statement) -> Certificate {
        let Statement(statement) = statement;
        let signer = self.store.ring().signer();
        let signature = STANDARD.encode(signer.sign(&signed(&statement)));
        Certificate { statement, public_key: hex::encode(signer.public_key()), signature }
    }
}

fn signed(statement: &Json) -> Vec<u8> {
    format!("{FORM}\n{statement}").into_bytes()
}
