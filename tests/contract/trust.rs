//! Docker Content Trust: what Debian's `notary` signs is read as docker's client reads it, and each attack of the TUF specification is refused.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::thread;

use chrono::{DateTime, Duration, Utc};
use rootfs_cache::digest::Digest;
use rootfs_cache::trust::dct::{DctError, DctOptions, signed_by};
use rootfs_cache::trust::{ChainError, Freshness, KeyId, MetadataError, RootTrust, SignedRepository, TrustMode};
use tests::notary::{self, Notary};
use tests::{Fixture, Run, place, skip};

type Documents = BTreeMap<String, Vec<u8>>;

const REPOSITORY: &str = "localhost:5000/lambci/lambda";
const ONE: &str = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
const TWO: &str = "sha256:a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa";
const THREE: &str = "sha256:594e519ae499312b29433b7dd8a97ff068defcba9755b6d5d00e84c524d67b06";

/// A repository's life, as a client sees it at each step.
struct Life {
    /// One tag.
    first: Documents,
    /// Another one beside it.
    second: Documents,
    /// Signers beside the repository's key.
    signers: Documents,
    /// Another root, signed by the one before.
    rotated: Documents,
    /// What somebody else calls by the same name.
    other: Documents,
    /// Their copy of another repository.
    elsewhere: Documents,
}

/// Made once, by servers that have ended then. `None` where Notary is not installed.
fn life() -> Option<&'static Life> {
    static LIFE: OnceLock<Option<Life>> = OnceLock::new();
    let life = LIFE.get_or_init(|| {
        let (ours, theirs) = (Notary::start()?, Notary::start()?);
        ours.init(REPOSITORY);
        ours.sign(REPOSITORY, &[("provided", ONE, 1)]);
        let first = ours.documents(REPOSITORY);
        ours.sign(REPOSITORY, &[("nodejs12.x", TWO, 2)]);
        let second = ours.documents(REPOSITORY);
        add_signers(&ours);
        let signers = ours.documents(REPOSITORY);
        ours.client(&["key", "rotate", REPOSITORY, "root"]);
        let rotated = ours.documents(REPOSITORY);
        theirs.init(REPOSITORY);
        theirs.sign(REPOSITORY, &[("provided", TWO, 1)]);
        let elsewhere = "localhost:5000/else/where";
        theirs.init(elsewhere);
        theirs.sign(elsewhere, &[("provided", TWO, 1)]);
        Some(Life { first, second, signers, rotated, other: theirs.documents(REPOSITORY), elsewhere: theirs.documents(elsewhere) })
    });
    if life.is_none() {
        notary::is_installed();
    }
    life.as_ref()
}

fn add_signers(notary: &Notary) {
    for role in ["targets/releases", "targets/alice", "targets/bob"] {
        notary.add_signer(REPOSITORY, role);
    }
    for (tag, digest, role) in [
        ("provided", THREE, Some("targets/releases")),
        ("provided", THREE, Some("targets/bob")),
        ("v10", TWO, Some("targets/releases")),
        ("v10", TWO, Some("targets/bob")),
        ("v10", TWO, Some("targets/alice")),
        ("v9", TWO, None),
        ("alone", TWO, Some("targets/alice")),
    ] {
        notary.add(REPOSITORY, (tag, digest, 7), role);
    }
    notary.client(&["publish", REPOSITORY]);
}

/// Nothing here waits: documents at hand are there at once.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match Box::pin(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for something"),
    }
}

fn check_at(documents: &Documents, options: &DctOptions, now: DateTime<Utc>) -> Result<SignedRepository, DctError> {
    now_or_never(signed_by(REPOSITORY, documents, options, now))
}

fn check(documents: &Documents, options: &DctOptions) -> Result<SignedRepository, DctError> {
    check_at(documents, options, Utc::now())
}

fn strict() -> DctOptions {
    DctOptions { mode: Some(TrustMode::Strict), ..DctOptions::default() }
}

fn strict_with(memory: &Path) -> DctOptions {
    DctOptions { memory: Some(memory.to_owned()), ..strict() }
}

/// The root's key in documents that we made ourselves.
fn root_of(documents: &Documents) -> KeyId {
    check(documents, &strict()).expect("it is good").root_keys[0]
}

fn historical(root: KeyId) -> DctOptions {
    DctOptions { mode: Some(TrustMode::Historical), roots: vec![root], ..DctOptions::default() }
}

fn chain(result: Result<SignedRepository, DctError>) -> ChainError {
    match result {
        Err(DctError::Chain(error)) => error,
        other => panic!("it is refused for what the documents say: {other:?}"),
    }
}

fn document(result: Result<SignedRepository, DctError>) -> MetadataError {
    match chain(result) {
        ChainError::Document { source, .. } => source,
        other => panic!("a document is refused: {other:?}"),
    }
}

fn digest(text: &str) -> Digest {
    text.parse().expect("a digest")
}

#[test]
fn what_notary_signs_is_read() {
    let Some(life) = life() else { return };
    let signed = check(&life.second, &strict()).expect("it is good");
    assert_eq!(signed.tag("provided").map(|tag| (tag.digest, tag.size)), Some((digest(ONE), 1)));
    assert_eq!(signed.tag("nodejs12.x").map(|tag| tag.digest), Some(digest(TWO)));
    assert_eq!(signed.tag("none"), None);
    assert_eq!((signed.evidence.root.clone(), signed.evidence.freshness), (RootTrust::FirstUse, Freshness::Proved));
    assert!(signed.evidence.not_proved().iter().any(|line| line.contains("first time")), "{:?}", signed.evidence);
    let pinned = check(&life.second, &DctOptions { roots: signed.root_keys.clone(), ..strict() }).expect("it is good");
    assert_eq!(pinned.evidence.root, RootTrust::Pinned);
}

#[test]
fn rollback_to_documents_older_than_those_seen_is_refused() {
    let Some(life) = life() else { return };
    let memory = place::scratch();
    check(&life.second, &strict_with(memory.path())).expect("it is good");
    let error = chain(check(&life.first, &strict_with(memory.path())));
    assert!(matches!(error, ChainError::Rollback { .. }), "{error:?}");
    // Without the two documents that the server signs, too.
    let mut saved = life.first.clone();
    saved.retain(|name, _| name == "root" || name == "targets");
    let options = DctOptions { memory: Some(memory.path().to_owned()), ..historical(root_of(&life.second)) };
    let error = chain(check(&saved, &options));
    assert!(matches!(&error, ChainError::Rollback { document, .. } if document == "targets.json"), "{error:?}");
    check(&life.second, &strict_with(memory.path())).expect("what was seen is still good");
    check(&life.signers, &strict_with(memory.path())).expect("what is newer is good");
}

#[test]
fn freeze_by_a_timestamp_that_nobody_renews_is_refused() {
    let Some(life) = life() else { return };
    let in_time = Utc::now() + Duration::days(13);
    check_at(&life.second, &strict(), in_time).expect("a timestamp holds for 14 days");
    let error = document(check_at(&life.second, &strict(), in_time + Duration::days(2)));
    assert!(matches!(&error, MetadataError::Expired { document, .. } if document == "timestamp.json"), "{error:?}");
}

#[test]
fn mix_and_match_of_documents_from_different_times_is_refused() {
    let Some(life) = life() else { return };
    for name in ["targets", "snapshot"] {
        let mut mixed = life.second.clone();
        mixed.insert(name.to_owned(), life.first[name].clone());
        let error = document(check(&mixed, &strict()));
        assert!(matches!(&error, MetadataError::Hash { document, .. } if *document == format!("{name}.json")), "{error:?}");
        // A saved copy is held to its snapshot, too.
        let error = document(check(&mixed, &historical(root_of(&life.second))));
        assert!(matches!(error, MetadataError::Hash { .. }), "{error:?}");
    }
}

#[test]
fn wrong_keys_are_refused() {
    let Some(life) = life() else { return };
    let ours = root_of(&life.first);
    let error = chain(check(&life.other, &DctOptions { roots: vec![ours], ..strict() }));
    assert!(matches!(error, ChainError::NotPinned { .. }), "{error:?}");
    // Targets signed by somebody else, under our root.
    let saved = Documents::from([("root".to_owned(), life.first["root"].clone()), ("targets".to_owned(), life.other["targets"].clone())]);
    let error = document(check(&saved, &historical(ours)));
    assert!(matches!(&error, MetadataError::Signatures { document, valid: 0, .. } if document == "targets.json"), "{error:?}");
    // Timestamp and snapshot likewise.
    for name in ["timestamp", "snapshot"] {
        let mut mixed = life.first.clone();
        mixed.insert(name.to_owned(), life.other[name].clone());
        let error = document(check(&mixed, &strict()));
        assert!(matches!(error, MetadataError::Signatures { .. } | MetadataError::Hash { .. }), "{error:?}");
    }
}

#[test]
fn a_root_seen_once_is_not_replaced_by_anothers() {
    let Some(life) = life() else { return };
    let memory = place::scratch();
    check(&life.first, &strict_with(memory.path())).expect("it is good");
    let error = chain(check(&life.other, &strict_with(memory.path())));
    assert!(matches!(error, ChainError::Rotation { .. } | ChainError::Rollback { .. }), "{error:?}");
}

#[test]
fn another_repositorys_documents_are_refused() {
    let Some(life) = life() else { return };
    let error = chain(check(&life.elsewhere, &strict()));
    assert!(matches!(&error, ChainError::OtherRepository { found, .. } if found == "localhost:5000/else/where"), "{error:?}");
}

#[test]
fn expired_targets_are_refused_unless_history_is_asked_for() {
    let Some(life) = life() else { return };
    let later = Utc::now() + Duration::days(4 * 366);
    let error = document(check_at(&life.second, &strict(), later));
    assert!(matches!(error, MetadataError::Expired { .. }), "{error:?}");
    let signed = check_at(&life.second, &historical(root_of(&life.second)), later).expect("freshness is waived");
    assert_eq!(signed.tag("provided").map(|tag| tag.digest), Some(digest(ONE)));
    let expired: Vec<&str> = signed.evidence.expired.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(expired, ["timestamp.json", "snapshot.json", "targets.json"]);
    assert_eq!(signed.evidence.freshness, Freshness::Over);
    assert!(signed.evidence.not_proved().iter().any(|line| line.contains("targets.json")), "{:?}", signed.evidence);
}

#[test]
fn history_needs_a_pinned_root_and_no_more_than_two_documents() {
    let Some(life) = life() else { return };
    let unpinned = DctOptions { mode: Some(TrustMode::Historical), ..DctOptions::default() };
    let error = chain(check(&life.second, &unpinned));
    assert!(matches!(error, ChainError::Unpinned { .. }), "{error:?}");
    let mut saved = life.second.clone();
    saved.retain(|name, _| name == "root" || name == "targets");
    let signed = check(&saved, &historical(root_of(&life.second))).expect("targets are signed");
    assert_eq!((signed.evidence.has_snapshot, signed.evidence.freshness), (false, Freshness::Unknown));
    let error = chain(check(&saved, &strict()));
    assert!(matches!(&error, ChainError::Missing { document, .. } if document == "timestamp.json"), "{error:?}");
}

#[test]
fn delegations_targets_releases_wins_and_others_only_witness() {
    let Some(life) = life() else { return };
    let signed = check(&life.signers, &strict()).expect("it is good");
    assert_eq!(signed.tag("provided").map(|tag| (tag.digest, tag.role.as_str())), Some((digest(THREE), "targets/releases")));
    assert_eq!(signed.tag("nodejs12.x").map(|tag| tag.digest), Some(digest(TWO)));
    assert_eq!(signed.tag("alone"), None, "a signer by themselves releases nothing");
    let roles: Vec<&str> = signed.signers.iter().map(|signer| signer.role.as_str()).collect();
    assert_eq!(roles, ["targets/releases", "targets/alice", "targets/bob"]);
    let by_digest = |text: &str| signed.resolve(&format!("{REPOSITORY}@{text}").parse().expect("a reference")).map(|tag| tag.tag.clone());
    assert_eq!(by_digest(THREE).expect("it is signed"), "provided");
    assert!(matches!(by_digest(ONE), Err(DctError::DigestNotSigned { .. })), "what `targets/releases` has moved is signed no longer");
}

#[test]
fn delegations_that_were_changed_or_are_missing_are_refused() {
    let Some(life) = life() else { return };
    let mut changed = life.signers.clone();
    let releases = changed["targets/releases"].clone();
    changed.insert("targets/alice".to_owned(), releases);
    let error = document(check(&changed, &strict()));
    assert!(matches!(&error, MetadataError::Hash { document, .. } if document == "targets/alice.json"), "{error:?}");
    changed.remove("targets/alice");
    let error = chain(check(&changed, &strict()));
    assert!(matches!(&error, ChainError::Missing { document, .. } if document == "targets/alice.json"), "{error:?}");
    // Without a snapshot the keys still decide: what they have not signed is left out.
    let mut saved = life.signers.clone();
    saved.retain(|name, _| name.starts_with("targets") || name == "root");
    let alice = saved["targets/alice"].clone();
    saved.insert("targets/releases".to_owned(), alice);
    let signed = check(&saved, &historical(root_of(&life.signers))).expect("the repository's own key has signed");
    assert_eq!(signed.tag("provided").map(|tag| tag.digest), Some(digest(ONE)));
    assert!(signed.evidence.not_proved().iter().any(|line| line.contains("targets/releases.json")), "{:?}", signed.evidence);
}

#[test]
fn root_rotation_that_the_old_key_has_signed_is_followed() {
    let Some(life) = life() else { return };
    let (old, new) = (root_of(&life.signers), root_of(&life.rotated));
    assert_ne!(old, new);
    let memory = place::scratch();
    check(&life.signers, &strict_with(memory.path())).expect("it is good");
    let signed = check(&life.rotated, &strict_with(memory.path())).expect("the old key has signed the new root");
    assert!(matches!(signed.evidence.root, RootTrust::Remembered(_)), "{:?}", signed.evidence);
    // From now on the new one counts.
    let error = chain(check(&life.signers, &strict_with(memory.path())));
    assert!(matches!(error, ChainError::Rollback { .. }), "{error:?}");
    // A pin to the old key leads there by the older root, if that is at hand, and by nothing else.
    let pinned = DctOptions { roots: vec![old], ..strict() };
    let mut with_older = life.rotated.clone();
    for version in 1..10 {
        with_older.entry(format!("{version}.root")).or_insert_with(|| life.signers["root"].clone());
    }
    check(&with_older, &pinned).expect("the older root is by the pinned key");
    check(&life.rotated, &DctOptions { roots: vec![new], ..strict() }).expect("it is good");
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let Some(life) = life() else { return };
    let options = historical(root_of(&life.second));
    let good = check(&life.second, &options).expect("it is good");
    for (name, bytes) in &life.second {
        for at in (0..bytes.len()).step_by(bytes.len() / 40) {
            let mut changed = life.second.clone();
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            changed.insert(name.clone(), damaged);
            match check(&changed, &options) {
                Err(_) => {}
                // What no signature covers, such as a second spelling of a signature's own base64, may change nothing.
                Ok(read) => assert_eq!((read.tags, read.root_keys), (good.tags.clone(), good.root_keys.clone()), "{name} {at}"),
            }
        }
    }
}

/// `undocked trust inspect` with a home of its own.
fn inspect(fixture: &Fixture, notary: &Notary, arguments: &[&str]) -> Run {
    inspect_by(fixture.undocked(&["trust", "inspect"]), notary, arguments)
}

fn inspect_by(run: Run, notary: &Notary, arguments: &[&str]) -> Run {
    let authority = notary.authority().display().to_string();
    run.args(["--ca", &authority, "--trust-server", &notary.url()]).args(arguments)
}

#[test]
fn inspect_prints_what_dockers_client_does() {
    let Some(notary) = Notary::start() else { return };
    let has_trust = Command::new("docker").args(["trust", "inspect", "--help"]).output().is_ok_and(|help| help.status.success());
    if !has_trust {
        skip::skip(skip::Lack::Large, "this machine's docker client has no `trust inspect`");
        return;
    }
    let fixture = Fixture::without_sandbox();
    notary.init(REPOSITORY);
    let compare = |arguments: &[&str]| {
        let docker =
            notary.for_docker("docker").args(["trust", "inspect"]).args(arguments).env("HOME", fixture.path()).output().expect("it starts");
        let ours = inspect(&fixture, &notary, arguments).finish();
        assert_eq!(ours.out(), String::from_utf8_lossy(&docker.stdout), "{arguments:?}: {}", ours.err());
        assert_eq!(Some(ours.code()), docker.status.code(), "{arguments:?}");
        let named = inspect_by(fixture.docker(&["trust", "inspect"]), &notary, arguments).finish();
        assert_eq!((named.out(), named.code()), (ours.out(), ours.code()), "{arguments:?}: {}", named.err());
    };
    let [first, ninth, tenth, none] = ["provided", "v9", "v10", "none"].map(|tag| format!("{REPOSITORY}:{tag}"));
    compare(&["--pretty", REPOSITORY]);
    notary.sign(
        REPOSITORY,
        &[("nodejs12.x", TWO, 2), ("nodejs8.10", ONE, 2), ("a<b&c>d", ONE, 3), ("v9", ONE, 3), ("v010", ONE, 3), ("v10", TWO, 3)],
    );
    compare(&[REPOSITORY]);
    compare(&["--pretty", REPOSITORY]);
    for role in ["targets/releases", "targets/alice", "targets/bob", "targets/a-very-long-name"] {
        notary.add_signer(REPOSITORY, role);
    }
    for role in ["targets/releases", "targets/bob", "targets/alice"] {
        notary.add(REPOSITORY, ("provided", THREE, 7), Some(role));
    }
    notary.client(&["publish", REPOSITORY]);
    let long = "a".repeat(100);
    for arguments in [
        &[REPOSITORY][..],
        &["--pretty", REPOSITORY],
        &[&first],
        &["--pretty", &first],
        &[&ninth, &tenth],
        &["--pretty", &ninth, &tenth],
        &[&none],
        &["--pretty", &none],
        &["localhost:5000/not/there"],
        &["--pretty", "localhost:5000/not/there"],
        &[&ninth, "localhost:5000/not/there", "UPPER", &tenth],
        &["--pretty", &ninth, "UPPER", &tenth],
        &["--pretty", &format!("{REPOSITORY}:{long}")],
        &[&format!("{REPOSITORY}@{ONE}")],
    ] {
        compare(arguments);
    }
}

#[test]
fn inspect_reads_a_saved_copy_too_and_says_what_that_proves() {
    let Some(life) = life() else { return };
    let fixture = Fixture::without_sandbox();
    // Docker's own folder, and one with the files alone.
    let (of_docker, flat) = (fixture.path().join("tuf"), fixture.path().join("flat"));
    notary::save(&life.signers, &of_docker.join(REPOSITORY).join("metadata"));
    let mut few = life.signers.clone();
    few.retain(|name, _| name == "root" || name.starts_with("targets"));
    notary::save(&few, &flat);
    let root = root_of(&life.signers).to_string();
    let show = |folder: &Path, options: &[&str]| {
        fixture.undocked(&["trust", "inspect", "--pretty", "--trust-dir"]).arg(folder).args(options).arg(REPOSITORY).finish()
    };
    for folder in [&of_docker, &flat] {
        let shown = show(folder, &["--trust-root", &root]).expect_code(0);
        assert!(shown.out().contains(&format!("Root Key:\t{root}\n")), "{}", shown.out());
        assert!(shown.err().contains("not proved") && shown.err().contains("--trust-root"), "{}", shown.err());
    }
    let refused = Fixture::without_sandbox();
    let refused = refused.undocked(&["trust", "inspect", "--trust-dir"]).arg(&flat).arg(REPOSITORY).finish().expect_code(1);
    assert!(refused.err().contains(&format!("--trust-root {root}")), "{}", refused.err());
    let wrong = "0".repeat(64);
    show(&flat, &["--trust-root", &wrong]).expect_code(1);
    show(&flat, &["--trust-mode", "off"]).expect_code(2);
    show(&flat, &["--trust-mode", "later"]).expect_code(2);
    show(&flat, &["--trust-root", "short"]).expect_code(2);
}

/// What is signed is asked for by TLS alone, on this machine too, as docker's client does.
#[test]
fn a_trust_server_is_spoken_to_by_tls_wherever_it_is() {
    let fixture = Fixture::without_sandbox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let server = format!("https://{}", listener.local_addr().expect("it is bound"));
    let first = thread::spawn(move || {
        let mut byte = [0];
        let (mut connection, _) = listener.accept().expect("somebody connects");
        connection.read_exact(&mut byte).expect("something is said");
        byte[0]
    });
    let arguments = ["pull", "--require-trust", "dct", "--trust-server", &server, "127.0.0.1:9/team/app:1"];
    fixture.undocked(&arguments).finish().expect_code(125);
    // A handshake, where plain HTTP begins with `G` (RFC 8446, 5.1).
    assert_eq!(first.join().expect("it was asked"), 22);
}
