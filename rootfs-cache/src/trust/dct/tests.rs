//! What Debian's Notary cannot be brought to write: thresholds, roots without a cross-signature, signers within limits. Its own documents are read by
//! `tests/contract/trust.rs`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Duration;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;
use crate::trust::{MetadataError, canonical};

const REPOSITORY: &str = "example.com/a/b";

/// A key made of one byte.
struct Key(Ed25519KeyPair);

impl Key {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn raw(&self) -> Value {
        json!({"keytype": "ed25519", "keyval": {"private": null, "public": STANDARD.encode(self.0.public_key())}})
    }

    fn id(&self) -> String {
        Digest::of(&canonical::of(&self.raw()).unwrap()).hex()
    }

    fn sign(&self, signed: &Value) -> Value {
        json!({"keyid": self.id(), "method": "eddsa", "sig": STANDARD.encode(self.0.sign(&canonical::of(signed).unwrap()))})
    }
}

fn keys(seeds: &[u8]) -> Vec<Key> {
    seeds.iter().copied().map(Key::new).collect()
}

fn role(seeds: &[u8], threshold: u32) -> Value {
    json!({"keyids": keys(seeds).iter().map(Key::id).collect::<Vec<_>>(), "threshold": threshold})
}

fn keys_of(seeds: &[u8]) -> Value {
    Value::Object(keys(seeds).iter().map(|key| (key.id(), key.raw())).collect())
}

fn signed(content: &Value, seeds: &[u8]) -> Vec<u8> {
    let signatures: Vec<Value> = keys(seeds).iter().map(|key| key.sign(content)).collect();
    json!({"signed": content, "signatures": signatures}).to_string().into_bytes()
}

/// Root 1, targets 2, snapshot 3, timestamp 4 unless told otherwise.
struct Repository {
    root: (Vec<u8>, u32),
    root_signers: Vec<u8>,
    root_version: u64,
    targets: (Vec<u8>, u32),
    targets_signers: Vec<u8>,
    delegations: Value,
    others: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    fn new() -> Self {
        Self {
            root: (vec![1], 1),
            root_signers: vec![1],
            root_version: 1,
            targets: (vec![2], 1),
            targets_signers: vec![2],
            delegations: json!({"keys": {}, "roles": []}),
            others: BTreeMap::new(),
        }
    }

    fn documents(&self) -> BTreeMap<String, Vec<u8>> {
        let expires = "2040-01-01T00:00:00Z";
        let all = [&self.root.0[..], &self.targets.0, &[3, 4]].concat();
        let roles = json!({"root": role(&self.root.0, self.root.1), "targets": role(&self.targets.0, self.targets.1), "snapshot": role(&[3], 1), "timestamp": role(&[4], 1)});
        let root = json!({"_type": "Root", "version": self.root_version, "expires": expires, "consistent_snapshot": false, "keys": keys_of(&all), "roles": roles});
        let tag = json!({"hashes": {"sha256": STANDARD.encode([9; 32])}, "length": 9});
        let targets = json!({"_type": "Targets", "version": 1, "expires": expires, "targets": {"1": tag}, "delegations": self.delegations});
        let mut documents = self.others.clone();
        documents.insert("root".to_owned(), signed(&root, &self.root_signers));
        documents.insert("targets".to_owned(), signed(&targets, &self.targets_signers));
        let meta = |documents: &BTreeMap<String, Vec<u8>>| {
            let named = documents.iter().map(|(name, bytes)| {
                let hash = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, bytes));
                (name.clone(), json!({"hashes": {"sha256": hash}, "length": bytes.len()}))
            });
            Value::Object(named.collect())
        };
        let snapshot = json!({"_type": "Snapshot", "version": 1, "expires": expires, "meta": meta(&documents)});
        let snapshot = BTreeMap::from([("snapshot".to_owned(), signed(&snapshot, &[3]))]);
        let timestamp = json!({"_type": "Timestamp", "version": 1, "expires": expires, "meta": meta(&snapshot)});
        documents.extend(snapshot);
        documents.insert("timestamp".to_owned(), signed(&timestamp, &[4]));
        documents
    }
}

fn now() -> DateTime<Utc> {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

/// Pinned to root keys by their seeds; these have no certificate and are bound to no repository.
fn pinned(seeds: &[u8]) -> DctOptions {
    let roots = keys(seeds).iter().map(|key| key.id().parse().unwrap()).collect();
    DctOptions { mode: Some(TrustMode::Strict), roots, ..DctOptions::default() }
}

fn check(documents: &BTreeMap<String, Vec<u8>>, options: &DctOptions) -> Result<SignedRepository, DctError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(signed_by(REPOSITORY, documents, options, now()))
}

fn fault(result: Result<SignedRepository, DctError>) -> String {
    match result {
        Err(DctError::Chain(ChainError::Document { source, .. })) => source.to_string(),
        Err(DctError::Chain(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_known_keys_are_keys() {
    assert!(built_in("docker.io/lambci/lambda").is_some() && built_in("docker.io/lambci/other").is_none());
    assert_eq!(known(BUILT_IN_REPOSITORY_KEY).to_string(), BUILT_IN_REPOSITORY_KEY);
}

#[test]
fn thresholds_count_keys_and_not_signatures() {
    for (targets, signers, wanted) in [
        ((vec![2, 5], 2), vec![2, 5], None),
        ((vec![2, 5], 1), vec![5], None),
        ((vec![2, 5], 2), vec![2], Some("targets.json has 1 of 2 valid signatures")),
        ((vec![2, 5], 2), vec![2, 2, 2], Some("targets.json has 1 of 2 valid signatures")),
        ((vec![2, 5], 2), vec![2, 6], Some("targets.json has 1 of 2 valid signatures")),
        ((vec![2], 1), vec![1, 3, 4], Some("targets.json has 0 of 1 valid signatures")),
        ((vec![2], 1), vec![], Some("targets.json has 0 of 1 valid signatures")),
        ((vec![2], 0), vec![], Some("the threshold 0")),
        ((vec![2, 2], 2), vec![2], Some("1 keys and the threshold 2")),
    ] {
        let repository = Repository { targets: targets.clone(), targets_signers: signers.clone(), ..Repository::new() };
        let found = check(&repository.documents(), &pinned(&[1]));
        match wanted {
            None => assert_eq!(found.unwrap().tags.len(), 1),
            Some(wanted) => {
                let fault = fault(found);
                assert!(fault.contains(wanted), "{targets:?} {signers:?}: {fault}");
            }
        }
    }
}

#[test]
fn roots_need_their_own_keys_and_a_pinned_one() {
    for (root, signers, pins, wanted) in [
        ((vec![1, 7], 2), vec![1, 7], vec![1], None),
        ((vec![1, 7], 2), vec![1], vec![1], Some("root.json has 1 of 2")),
        // A pinned key that stands there and has not signed.
        ((vec![1, 7], 1), vec![7], vec![1], Some("signed by none of the keys wanted")),
        ((vec![7], 1), vec![7, 1], vec![1], Some("signed by none of the keys wanted")),
        ((vec![7], 1), vec![7], vec![1, 7], None),
    ] {
        let repository = Repository { root: root.clone(), root_signers: signers.clone(), ..Repository::new() };
        let found = check(&repository.documents(), &pinned(&pins));
        match wanted {
            None => drop(found.unwrap()),
            Some(wanted) => {
                let fault = fault(found);
                assert!(fault.contains(wanted), "{root:?} {signers:?}: {fault}");
            }
        }
    }
    let unpinned = DctOptions { mode: Some(TrustMode::Strict), ..DctOptions::default() };
    assert!(fault(check(&Repository::new().documents(), &unpinned)).contains("its root key is for `any repository`"));
}

#[test]
fn root_rotation_goes_by_every_step_between() {
    let version = |version: u64, key: u8, signers: &[u8]| Repository {
        root: (vec![key], 1),
        root_signers: signers.to_vec(),
        root_version: version,
        ..Repository::new()
    };
    let root_of = |repository: &Repository| repository.documents()["root"].clone();
    let (first, second) = (version(1, 1, &[1]), version(2, 10, &[10, 1]));
    for (third, older, wanted) in [
        (version(3, 11, &[11, 10]), vec![&first, &second], None),
        (version(3, 11, &[11, 1]), vec![&first], None),
        (version(3, 11, &[11, 10]), vec![&first], Some("version 3 of its root is not signed by the keys of version 1")),
        (version(3, 11, &[11]), vec![&first, &second], Some("version 3 of its root is not signed by the keys of version 2")),
        // The pinned root must be there to begin with.
        (version(3, 11, &[11, 10]), vec![], Some("signed by none of the keys wanted")),
    ] {
        let mut documents = third.documents();
        documents.extend(older.iter().map(|root| (format!("{}.root", root.root_version), root_of(root))));
        match (check(&documents, &pinned(&[1])), wanted) {
            (Ok(found), None) => assert_eq!(found.evidence.root, RootTrust::Pinned),
            (found, Some(wanted)) => {
                let fault = fault(found);
                assert!(fault.contains(wanted), "{fault}");
            }
            (found, None) => panic!("{found:?}"),
        }
    }
    // A second version without the word of the first.
    let mut documents = version(3, 11, &[11, 10]).documents();
    documents.insert("1.root".to_owned(), root_of(&first));
    documents.insert("2.root".to_owned(), root_of(&version(2, 10, &[10])));
    assert!(fault(check(&documents, &pinned(&[1]))).contains("is not signed by the keys of version 1"));
}

#[test]
fn delegations_stay_within_what_they_may_name() {
    let tag = |byte: u8| json!({"hashes": {"sha256": STANDARD.encode([byte; 32])}, "length": 1});
    let document = |targets: Value, delegations: Value, signer: u8| {
        let content =
            json!({"_type": "Targets", "version": 1, "expires": "2040-01-01T00:00:00Z", "targets": targets, "delegations": delegations});
        signed(&content, &[signer])
    };
    let delegate = |name: &str, seed: u8, paths: &[&str]| {
        let mut role = role(&[seed], 1);
        role["name"] = json!(name);
        role["paths"] = json!(paths);
        json!({"keys": keys_of(&[seed]), "roles": [role]})
    };
    let nested = delegate("targets/other", 21, &[""]);
    let releases = document(json!({"1.x": tag(1), "2.x": tag(2)}), nested, 20);
    let mut repository = Repository { delegations: delegate("targets/releases", 20, &["1"]), ..Repository::new() };
    repository.others.insert("targets/releases".to_owned(), releases);
    // A signer cannot make others who stand beside them.
    repository.others.insert("targets/other".to_owned(), document(json!({"3.x": tag(3)}), json!({"keys": {}, "roles": []}), 21));
    let found = check(&repository.documents(), &pinned(&[1])).unwrap();
    let names: Vec<&str> = found.tags.iter().map(|tag| tag.tag.as_str()).collect();
    assert_eq!((names, found.others.len(), found.signers.len()), (vec!["1", "1.x"], 0, 1));
    // By a key of nobody's, it is left out and told of.
    repository.others.insert("targets/releases".to_owned(), document(json!({"1.x": tag(1)}), json!({"keys": {}, "roles": []}), 22));
    let found = check(&repository.documents(), &pinned(&[1])).unwrap();
    assert_eq!(found.tags.len(), 1);
    assert!(found.evidence.left_out[0].contains("targets/releases.json has 0 of 1"), "{:?}", found.evidence.left_out);
    for (name, wanted) in
        [("root", "no name of a delegation"), ("targets/../root", "no name of a delegation"), ("targets", "no name of a delegation")]
    {
        let repository = Repository { delegations: delegate(name, 20, &[""]), ..Repository::new() };
        let fault = fault(check(&repository.documents(), &pinned(&[1])));
        assert!(fault.contains(wanted), "{fault}");
    }
}

#[test]
fn keys_have_the_ids_that_they_stand_under() {
    let documents = Repository::new().documents();
    let mut root: Value = serde_json::from_slice(&documents["root"]).unwrap();
    let (one, other) = (Key::new(2), Key::new(99));
    root["signed"]["keys"][one.id()] = other.raw();
    let content = root["signed"].clone();
    let mut changed = documents.clone();
    changed.insert("root".to_owned(), signed(&content, &[1]));
    let error = check(&changed, &pinned(&[1])).unwrap_err();
    assert!(matches!(error, DctError::Chain(ChainError::Document { source: MetadataError::KeyId { .. }, .. })), "{error:?}");
}

#[test]
fn times_are_looked_at_in_every_document() {
    let documents = Repository::new().documents();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let at = |time| runtime.block_on(signed_by(REPOSITORY, &documents, &pinned(&[1]), time));
    let end: DateTime<Utc> = "2040-01-01T00:00:00Z".parse().unwrap();
    assert!(at(end - Duration::seconds(1)).is_ok());
    assert!(fault(at(end)).contains("root.json has expired at 2040-01-01"));
}

#[test]
fn folders_with_saved_copies() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("example.com/a/b");
    assert_eq!(folder_of(folder.path(), REPOSITORY), folder.path());
    std::fs::create_dir_all(own.join("metadata")).unwrap();
    std::fs::write(own.join("root.json"), "").unwrap();
    assert_eq!(folder_of(folder.path(), REPOSITORY), own);
    std::fs::write(own.join("metadata/root.json"), "").unwrap();
    assert_eq!(folder_of(folder.path(), REPOSITORY), own.join("metadata"));
}

#[test]
fn servers_are_named_by_url() {
    for (text, wanted) in [
        ("https://notary.docker.io", Some("notary.docker.io")),
        ("https://localhost:4443/", Some("localhost:4443")),
        ("http://notary.docker.io", None),
        ("notary.docker.io", None),
        ("https://", None),
        ("https://a/b", None),
        ("https://user@host", None),
    ] {
        let parsed: Option<TrustServer> = text.parse().ok();
        assert_eq!(parsed, wanted.map(|host| TrustServer(host.to_owned())), "{text}");
    }
}
