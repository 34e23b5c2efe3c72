//! Checkpoints for the outside: a C2SP `tlog-checkpoint` in a C2SP `signed-note` (Ed25519), as witnesses and monitors read them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::{log::Head, merkle::Hash};
use crate::model::Signer;

const ED25519: u8 = 1;
const NOTE_BYTES: usize = 64 << 10;

/// A checkpoint's text with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote(String);

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

/// Why a note is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("this is no signed note: text, an empty line, then lines of signatures")]
    Form,
    /// No signature by the key.
    #[error("the note is not signed by the key given")]
    Signature,
    /// The text is no checkpoint.
    #[error("the note's text is no checkpoint: origin, size and root on lines of their own")]
    Checkpoint,
    /// The checkpoint of another log.
    #[error("the checkpoint is of another log")]
    Origin,
}

impl SignedNote {
    /// Signs a head.
    pub(super) fn new(origin: &str, head: &Head, signer: &dyn Signer) -> Self {
        Self::extended(origin, head, "", signer)
    }

    /// The same with more lines below, each of which must end: witnesses sign them, and `open` skips them.
    pub(super) fn extended(origin: &str, head: &Head, lines: &str, signer: &dyn Signer) -> Self {
        let text = format!("{origin}\n{}\n{}\n{lines}", head.size, STANDARD.encode(head.root));
        let signature = signer.sign(text.as_bytes());
        let blob = [&key_id(origin, &signer.public_key())[..], &signature].concat();
        Self(format!("{text}\n\u{2014} {origin} {}\n", STANDARD.encode(blob)))
    }

    /// Takes a note in from outside, unverified.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The note as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it says, if the key signed it and it is of this log. Signatures by others (witnesses) are skipped.
    pub fn open(&self, origin: &str, public_key: &[u8; 32]) -> Result<Checkpoint, NoteError> {
        let checkpoint = parse(open(&self.0, origin, public_key)?).ok_or(NoteError::Checkpoint)?;
        if checkpoint.origin == origin { Ok(checkpoint) } else { Err(NoteError::Origin) }
    }
}

/// The key in the form that tools for signed notes take: `name+hash+key`.
pub fn verifier_key(origin: &str, public_key: &[u8; 32]) -> String {
    let typed = [&[ED25519][..], public_key].concat();
    format!("{origin}+{}+{}", hex::encode(key_id(origin, public_key)), STANDARD.encode(typed))
}

/// Whether a name can stand in a note: not empty, without white space, control characters or plus.
pub(super) fn is_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= 256 && !name.contains(bad)
}

/// Whether `signature` is the key's, of `message`.
pub(super) fn is_signed(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let signature = Signature::from_bytes(signature);
    VerifyingKey::from_bytes(public_key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

fn key_id(name: &str, public_key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(public_key).finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

/// The text of a note that the key signed.
fn open<'a>(note: &'a str, name: &str, public_key: &[u8; 32]) -> Result<&'a str, NoteError> {
    if note.len() > NOTE_BYTES || note.contains(|c: char| c.is_control() && c != '\n') {
        return Err(NoteError::Form);
    }
    let cut = note.rfind("\n\n").ok_or(NoteError::Form)?;
    let (text, rest) = note.split_at_checked(cut.saturating_add(1)).ok_or(NoteError::Form)?;
    let lines = rest.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n')).ok_or(NoteError::Form)?;
    let mut signed = false;
    for line in lines.split('\n') {
        let (signer, blob) =
            line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')).ok_or(NoteError::Form)?;
        let blob = STANDARD.decode(blob).map_err(|_| NoteError::Form)?;
        let (id, signature) = blob.split_first_chunk::<4>().ok_or(NoteError::Form)?;
        if signer == name && *id == key_id(name, public_key) {
            let signature = signature.as_array::<64>().ok_or(NoteError::Signature)?;
            if !is_signed(public_key, text.as_bytes(), signature) {
                return Err(NoteError::Signature);
            }
            signed = true;
        }
    }
    if signed { Ok(text) } else { Err(NoteError::Signature) }
}

fn parse(text: &str) -> Option<Checkpoint> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    let number = size.parse::<u64>().ok().filter(|number| number.to_string() == size)?;
    let root = *STANDARD.decode(root).ok()?.as_array::<32>()?;
    Some(Checkpoint { origin: origin.to_owned(), size: number, root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::TestSigner;

    const ORIGIN: &str = "wardkeep.example/audit";

    fn head() -> Head {
        Head { size: 20_852_163, root: [7; 32], group: 3 }
    }

    #[test]
    fn the_public_example_of_a_signed_note_opens() {
        let key = STANDARD.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let key: [u8; 32] = key[1..].try_into().unwrap();
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let line = "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let note = format!("{text}{line}");
        assert_eq!(open(&note, "PeterNeumann", &key), Ok(text));
        assert_eq!(open(&note, "PeterNewmann", &key), Err(NoteError::Signature));
        assert_eq!(open(&note.replace("think", "thank"), "PeterNeumann", &key), Err(NoteError::Signature));
        let expected = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(verifier_key("PeterNeumann", &key), expected);
    }

    #[test]
    fn a_checkpoint_says_what_was_signed_and_has_the_published_form() {
        let signer = TestSigner::new(1);
        let note = SignedNote::new(ORIGIN, &head(), &signer);
        let root = STANDARD.encode([7; 32]);
        assert!(note.as_str().starts_with(&format!("{ORIGIN}\n20852163\n{root}\n\n— {ORIGIN} ")));
        let said = note.open(ORIGIN, &signer.public_key()).unwrap();
        assert_eq!(said, Checkpoint { origin: ORIGIN.into(), size: 20_852_163, root: [7; 32] });
    }

    #[test]
    fn a_checkpoint_of_another_key_log_or_content_is_refused() {
        let signer = TestSigner::new(1);
        let note = SignedNote::new(ORIGIN, &head(), &signer);
        let other = TestSigner::new(2).public_key();
        assert_eq!(note.open(ORIGIN, &other), Err(NoteError::Signature));
        assert_eq!(note.open("elsewhere", &signer.public_key()), Err(NoteError::Signature));
        let changed = SignedNote::from_text(note.as_str().replace("20852163", "20852162"));
        assert_eq!(changed.open(ORIGIN, &signer.public_key()), Err(NoteError::Signature));
        for bad in ["", "\n\n", "a\nb\n", "a\n\nb\n", "a\n\n— b\n", "a\n\n— b !\n"] {
            assert_eq!(SignedNote::from_text(bad).open(ORIGIN, &other), Err(NoteError::Form), "{bad:?}");
        }
    }

    #[test]
    fn signatures_by_witnesses_are_skipped() {
        let signer = TestSigner::new(1);
        let note = SignedNote::new(ORIGIN, &head(), &signer);
        let witnessed = format!("{}— witness.example {}\n", note.as_str(), STANDARD.encode([9; 76]));
        assert!(SignedNote::from_text(witnessed).open(ORIGIN, &signer.public_key()).is_ok());
    }

    #[test]
    fn a_name_has_no_spaces_and_no_plus() {
        assert!(is_name(ORIGIN));
        for bad in ["", "a b", "a+b", "a\nb", "a\u{a0}b", &"x".repeat(257)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
