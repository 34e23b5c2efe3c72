//! Whoever could write a caller down would be anyone.

use wardkeep::{
    authn::{Caller, Proof},
    model::EntityUid,
};

fn main() {
    let _ = Caller { uid: EntityUid::new("Clinician", "forged"), proof: Proof::Passphrase, purposes: None }; //~ E0451 private
}
