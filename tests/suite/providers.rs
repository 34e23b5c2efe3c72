//! Key providers, each over the real binary: a PKCS#11 token (SoftHSM2) and Vault's transit engine (a stand-in that keeps its keys to
//! itself). What goes wrong is said, and no secret in it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{
    harness::Client,
    plain::{self, Process, all_records, bare_command, furnish, put_records, said},
};

const PIN: &str = "491827-user-pin";
pub const TOKEN: &str = "hvs.secret-token-of-the-vault";
/// Whatever goes wrong, these are never shown.
const SECRETS: [&str; 3] = [PIN, TOKEN, plain::PHRASE];

/// How a store's provider is reached: variables of the environment.
pub type Reach = BTreeMap<&'static str, String>;

fn run(reach: &Reach, arguments: &[&str], dir: &Path) -> (i32, String, String) {
    let told = said(bare_command(arguments).envs(reach).arg("--data").arg(dir).output().unwrap());
    for secret in SECRETS {
        assert!(![&told.1, &told.2].iter().any(|text| text.contains(secret)), "a secret is shown: {told:?}");
    }
    told
}

pub fn init(reach: &Reach, provider: &str, dir: &Path) -> String {
    let (code, out, err) = run(reach, &["init", "--json", "--key-provider", provider], dir);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str::<Json>(&out).unwrap()["api_key"].as_str().unwrap().to_owned()
}

/// Writes, erases (which renews the key file twice), and reads again after a restart.
fn lives(reach: &Reach, dir: &Path, key: &str, provider: &str) {
    let mut process = Process::serve_with(dir, reach);
    let root = Client::new(&process.url, key);
    furnish(&root);
    put_records(&root, &[plain::record("a", "d", 1), plain::record("b", "d", 1), plain::record("c", "e", 1)]).ok();
    root.post("/v1/collections/notes/erase", &json!({"ids": ["a"]})).ok();
    let status = root.get("/v1/keys").ok();
    assert_eq!((&status["provider"], &status["key_file_generation"]), (&json!(provider), &json!(3)));
    let records = all_records(&root);
    assert_eq!(records.len(), 2);
    process.kill();
    let mut process = Process::serve_with(dir, reach);
    assert_eq!(all_records(&Client::new(&process.url, key)), records);
    process.kill();
    comes_back(reach, dir, key, &records);
}

/// A backup and an escrow that only the provider opens become a store that it keeps as well.
fn comes_back(reach: &Reach, dir: &Path, key: &str, records: &[Json]) {
    let beside = |name: &str| dir.with_file_name(name).to_str().unwrap().to_owned();
    let (backup, escrow, again) = (beside("backup"), beside("escrow"), beside("again"));
    let (code, out, err) = run(reach, &["backup", "--to", &backup, "--escrow", &escrow], dir);
    assert_eq!(code, 0, "{out}{err}");
    let restore = ["restore", "--verify", "--from", &backup, "--escrow", &escrow];
    let stranger = Reach::from([("WARDKEEP_PASSPHRASE", plain::PHRASE.to_owned())]);
    let (code, out, err) = run(&stranger, &restore, Path::new(&again));
    assert_eq!(code, 1, "without its provider the escrow does not open: {out}{err}");
    let (code, out, err) = run(reach, &restore, Path::new(&again));
    assert_eq!(code, 0, "{out}{err}");
    let process = Process::serve_with(Path::new(&again), reach);
    assert_eq!(all_records(&Client::new(&process.url, key)), records);
}

#[track_caller]
fn refused(reach: &Reach, dir: &Path, words: &str) {
    let (code, out, err) = run(reach, &["keys", "status"], dir);
    assert!(code != 0 && err.contains(words), "{code} {out}{err}");
}

mod pkcs11 {
    use super::*;

    /// A token of this test's own.
    struct Token {
        home: TempDir,
        module: PathBuf,
    }

    impl Token {
        fn new() -> Self {
            let places = [
                "/usr/lib/softhsm/libsofthsm2.so",
                "/usr/lib64/softhsm/libsofthsm2.so",
                "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
            ];
            let there = places.iter().map(PathBuf::from).find(|path| path.exists());
            let module = there.expect("SoftHSM2 is missing: `tests/run` installs it (Debian package softhsm2)");
            let token = Self { home: TempDir::new().unwrap(), module };
            std::fs::create_dir(token.home.path().join("tokens")).unwrap();
            let settings = format!(
                "directories.tokendir = {}\nobjectstore.backend = file\n",
                token.home.path().join("tokens").display()
            );
            std::fs::write(token.home.path().join("softhsm2.conf"), settings).unwrap();
            token.util(&["--init-token", "--free", "--label", "ward", "--so-pin", "00000000", "--pin", PIN]);
            token
        }

        fn util(&self, arguments: &[&str]) {
            let mut command = Command::new("softhsm2-util");
            let done =
                command.env("SOFTHSM2_CONF", self.home.path().join("softhsm2.conf")).args(arguments).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }

        fn reach(&self) -> Reach {
            let path = |path: &Path| path.to_str().unwrap().to_owned();
            BTreeMap::from([
                ("SOFTHSM2_CONF", path(&self.home.path().join("softhsm2.conf"))),
                ("WARDKEEP_PKCS11_MODULE", path(&self.module)),
                ("WARDKEEP_PKCS11_TOKEN", "ward".into()),
                ("WARDKEEP_PKCS11_KEY", "store-key".into()),
                ("WARDKEEP_PKCS11_PIN", PIN.into()),
            ])
        }
    }

    #[test]
    fn a_store_lives_on_a_key_that_never_leaves_its_token() {
        let token = Token::new();
        let (home, reach) = (TempDir::new().unwrap(), token.reach());
        let dir = home.path().join("data");
        let key = init(&reach, "pkcs11", &dir);
        lives(&reach, &dir, &key, "pkcs11");
        let file = std::fs::read(dir.join("keyring")).unwrap();
        let text = String::from_utf8_lossy(&file).into_owned();
        assert!(text.contains("store-key") && text.contains("ward"), "the key file says which key it needs");

        let with = |name: &'static str, value: &str| {
            let mut other = reach.clone();
            other.insert(name, value.to_owned());
            other
        };
        refused(&with("WARDKEEP_PKCS11_PIN", "000000"), &dir, "the PIN of the PKCS#11 token is wrong");
        refused(&with("WARDKEEP_PKCS11_PIN", ""), &dir, "PIN");
        refused(&with("WARDKEEP_PKCS11_MODULE", "/nowhere.so"), &dir, "module cannot be loaded");
        let phrase = Reach::from([("WARDKEEP_PASSPHRASE", plain::PHRASE.to_owned())]);
        refused(&phrase, &dir, "kept by the provider `pkcs11`, which is not configured here");
        let other = Token::new();
        refused(&other.reach(), &dir, "has no key of this label");
        // another key under the same name, and one that could leave its token
        let elsewhere = home.path().join("elsewhere");
        init(&other.reach(), "pkcs11", &elsewhere);
        refused(&other.reach(), &dir, "not the one that wrapped the key file");
        let third = Token::new();
        let plain_key = home.path().join("aes");
        std::fs::write(&plain_key, [7; 32]).unwrap();
        let import = plain_key.to_str().unwrap();
        third.util(&[
            "--import",
            import,
            "--aes",
            "--token",
            "ward",
            "--label",
            "store-key",
            "--id",
            "a1",
            "--pin",
            PIN,
        ]);
        let (code, _, err) = run(&third.reach(), &["init", "--key-provider", "pkcs11"], &home.path().join("third"));
        assert!(code == 1 && err.contains("can be extracted"), "{err}");
        assert_eq!(run(&reach, &["store", "verify"], &dir).0, 0);
    }

    #[test]
    fn a_store_moves_from_its_passphrase_to_a_token_and_the_passphrase_opens_it_no_longer() {
        let token = Token::new();
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        let phrase = Reach::from([("WARDKEEP_PASSPHRASE", plain::PHRASE.to_owned())]);
        init(&phrase, "passphrase", &dir);
        let both: Reach = phrase.iter().chain(&token.reach()).map(|(k, v)| (*k, v.clone())).collect();
        let (code, out, err) = run(&both, &["keys", "provider", "pkcs11"], &dir);
        assert!(code == 0 && out.contains("pkcs11"), "{out}{err}");
        refused(&phrase, &dir, "not configured here");
        assert_eq!(run(&token.reach(), &["keys", "status"], &dir).0, 0);
        assert_eq!(run(&token.reach(), &["store", "verify"], &dir).0, 0);
    }
}

pub mod vault {
    use super::*;

    /// What the stand-in is made to do.
    #[derive(Default)]
    struct Kept {
        sealed: Vec<(String, String)>,
        exportable: bool,
        absent: bool,
        down: bool,
        /// The token that it takes, if another than `TOKEN`.
        token: Option<&'static str>,
        /// As versions do that know nothing of associated data.
        unbound: bool,
    }

    /// As much of Vault's transit engine as is used: it knows what it sealed by number, and gives it to whoever has the token and names the
    /// same associated data.
    pub struct StandIn {
        address: String,
        kept: Arc<Mutex<Kept>>,
    }

    impl StandIn {
        pub fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let kept = Arc::new(Mutex::new(Kept::default()));
            let shared = Arc::clone(&kept);
            // ends with the test's process
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let _ = serve(stream, &mut shared.lock().unwrap());
                }
            });
            Self { address, kept }
        }

        /// From here on it does not answer, or does again.
        pub fn set_down(&self, down: bool) {
            self.kept.lock().unwrap().down = down;
        }

        pub fn reach(&self) -> Reach {
            BTreeMap::from([
                ("WARDKEEP_VAULT_ADDRESS", self.address.clone()),
                ("WARDKEEP_VAULT_KEY", "store-key".into()),
                ("WARDKEEP_VAULT_TOKEN", TOKEN.into()),
            ])
        }
    }

    fn serve(mut stream: TcpStream, kept: &mut Kept) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut first, mut length, mut token) = (String::new(), 0, String::new());
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "x-vault-token" => token = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, answer) = answer(&first, &token, &serde_json::from_slice(&body).unwrap_or_default(), kept);
        let answer = answer.to_string();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        )
    }

    fn answer(first: &str, token: &str, body: &Json, kept: &mut Kept) -> (u16, Json) {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
        match (method, path) {
            _ if kept.down => (503, json!({"errors": ["Vault is sealed"]})),
            _ if token != kept.token.unwrap_or(TOKEN) => (403, json!({"errors": ["permission denied"]})),
            _ if kept.absent => (404, json!({"errors": []})),
            ("GET", "/v1/transit/keys/store-key") => (
                200,
                json!({"data": {"type": "aes256-gcm96", "exportable": kept.exportable, "derived": false, "allow_plaintext_backup": false}}),
            ),
            ("POST", "/v1/transit/encrypt/store-key") => {
                STANDARD.decode(text("plaintext")).unwrap();
                kept.sealed.push((text("plaintext"), text("associated_data")));
                (200, json!({"data": {"ciphertext": format!("vault:v1:{}", kept.sealed.len() - 1)}}))
            }
            ("POST", "/v1/transit/decrypt/store-key") => {
                let number = text("ciphertext").strip_prefix("vault:v1:").and_then(|n| n.parse::<usize>().ok());
                let bound = |data: &str| kept.unbound || data == text("associated_data");
                match number.and_then(|n| kept.sealed.get(n)).filter(|(_, data)| bound(data)) {
                    Some((plain, _)) => (200, json!({"data": {"plaintext": plain}})),
                    None => (400, json!({"errors": ["cipher: message authentication failed"]})),
                }
            }
            _ => (404, json!({"errors": []})),
        }
    }

    #[test]
    fn a_store_lives_on_a_key_in_vault_and_says_what_keeps_it_from_it() {
        let vault = StandIn::new();
        let (home, reach) = (TempDir::new().unwrap(), vault.reach());
        let dir = home.path().join("data");
        let key = init(&reach, "vault", &dir);
        lives(&reach, &dir, &key, "vault");
        let with = |name: &'static str, value: &str| {
            let mut other = reach.clone();
            other.insert(name, value.to_owned());
            other
        };
        refused(&with("WARDKEEP_VAULT_TOKEN", "hvs.other"), &dir, "Vault refuses the token");
        refused(&with("WARDKEEP_VAULT_ADDRESS", "http://vault.example:8200"), &dir, "on this machine");
        refused(&with("WARDKEEP_VAULT_ADDRESS", "http://127.0.0.1:1"), &dir, "cannot be reached");
        refused(&StandIn::new().reach(), &dir, "not the one that wrapped the key file");
        let set = |change: fn(&mut Kept)| change(&mut vault.kept.lock().unwrap());
        set(|kept| kept.down = true);
        refused(&reach, &dir, "sealed or standing by");
        set(|kept| (kept.down, kept.absent) = (false, true));
        refused(&reach, &dir, "no such key");
        set(|kept| (kept.absent, kept.exportable) = (false, true));
        refused(&reach, &dir, "can be exported");
        set(|kept| kept.exportable = false);
        assert_eq!(run(&reach, &["store", "verify"], &dir).0, 0);
    }

    #[test]
    fn a_token_that_ends_is_read_anew_from_its_file() {
        let vault = StandIn::new();
        let home = TempDir::new().unwrap();
        let (dir, file) = (home.path().join("data"), home.path().join("token"));
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let mut reach = vault.reach();
        reach.remove("WARDKEEP_VAULT_TOKEN");
        reach.insert("WARDKEEP_VAULT_TOKEN_FILE", file.to_str().unwrap().to_owned());
        let key = init(&reach, "vault", &dir);
        let process = Process::serve_with(&dir, &reach);
        let root = Client::new(&process.url, &key);
        furnish(&root);
        put_records(&root, &[plain::record("a", "d", 1), plain::record("b", "e", 1)]).ok();
        let erase = |id: &str| root.post("/v1/collections/notes/erase", &json!({"ids": [id]}));
        vault.kept.lock().unwrap().token = Some("hvs.another-token");
        erase("a").expect(503);
        std::fs::write(&file, "hvs.another-token").unwrap();
        erase("a").ok();
        erase("b").ok();
    }

    #[test]
    fn a_vault_that_takes_no_notice_of_associated_data_is_not_relied_on() {
        let vault = StandIn::new();
        vault.kept.lock().unwrap().unbound = true;
        let home = TempDir::new().unwrap();
        let dir = home.path().join("data");
        let (code, _, err) = run(&vault.reach(), &["init", "--key-provider", "vault"], &dir);
        assert!(code == 1 && err.contains("does not authenticate associated data"), "{err}");
        // a store that is there moves nowhere either
        let phrase = Reach::from([("WARDKEEP_PASSPHRASE", plain::PHRASE.to_owned())]);
        let there = home.path().join("there");
        init(&phrase, "passphrase", &there);
        let both: Reach = phrase.iter().chain(&vault.reach()).map(|(k, v)| (*k, v.clone())).collect();
        let (code, _, err) = run(&both, &["keys", "provider", "vault"], &there);
        assert!(
            code == 1 && err.contains("nothing was changed") || err.contains("key file cannot be written"),
            "{err}"
        );
        assert_eq!(run(&phrase, &["store", "verify"], &there).0, 0);
    }

    #[test]
    fn an_erasure_that_vault_is_not_there_for_is_not_acknowledged_and_changes_nothing() {
        let vault = StandIn::new();
        let (home, reach) = (TempDir::new().unwrap(), vault.reach());
        let dir = home.path().join("data");
        let key = init(&reach, "vault", &dir);
        let process = Process::serve_with(&dir, &reach);
        let root = Client::new(&process.url, &key);
        furnish(&root);
        put_records(&root, &[plain::record("a", "d", 1)]).ok();
        let erase = || root.post("/v1/collections/notes/erase", &json!({"ids": ["a"]}));
        vault.set_down(true);
        erase().expect(503);
        assert_eq!(all_records(&root).len(), 1);
        put_records(&root, &[plain::record("b", "e", 1)]).ok();
        vault.set_down(false);
        erase().ok();
        assert_eq!(all_records(&root).len(), 1);
    }
}
