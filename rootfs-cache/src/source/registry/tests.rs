use std::fs;
use std::sync::Mutex as StdMutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::source::fake_registry::{Answer, Asked, FakeRegistry};
use crate::source::registries::{AskedFor, Place};
use crate::source::{Source, Transport};

const LAYER: &[u8] = b"not looked into here";

/// Puts an image with one layer into the registry, tagged `c`.
fn put_image(registry: &FakeRegistry) -> Digest {
    let layer = registry.put_blob(LAYER);
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer]}}).to_string();
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": registry.put_blob(config.as_bytes())});
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": LAYER.len()});
    registry.put_manifest(&json!({"schemaVersion": 2, "config": config, "layers": [layer]}), Some("c"))
}

fn reference(registry: &FakeRegistry) -> RegistryReference {
    format!("{}/a/b:c", registry.host()).parse().unwrap()
}

fn layer() -> Descriptor {
    Descriptor { media_type: String::new(), digest: Digest::of(LAYER), size: LAYER.len() as u64 }
}

/// Resolves the tag, reads the image and its layer, as a pull does.
async fn pull(registry: &FakeRegistry, access: &RegistryAccess, notes: Notes<'_>) -> Result<Digest, SourceError> {
    let source = Source::registry(&reference(registry), access, notes)?;
    let platform = "linux/amd64".parse().unwrap();
    let digest = source.current(&platform).await?;
    let image = source.image(digest, &platform).await?;
    let mut blob = source.blob(&image.manifest.layers[0]).await?;
    while blob.next().await?.is_some() {}
    Ok(image.digest)
}

async fn pull_quietly(registry: &FakeRegistry) -> Result<Digest, SourceError> {
    pull(registry, &RegistryAccess::default(), &|note| panic!("{note}")).await
}

/// Docker's config with a login for the registry.
fn stored_login(registry: &FakeRegistry, login: &str) -> (tempfile::TempDir, RegistryAccess) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.json");
    fs::write(&config, json!({"auths": {registry.host(): {"auth": STANDARD.encode(login)}}}).to_string()).unwrap();
    (directory, RegistryAccess { logins: vec![config], ..RegistryAccess::default() })
}

fn challenge(registry: &FakeRegistry, status: u16) -> Answer {
    let realm = format!(r#"Bearer realm="http://{}/token",service="test""#, registry.host());
    Answer::error(status, "UNAUTHORIZED").with("www-authenticate", realm)
}

fn basic(login: &str) -> Option<String> {
    Some(format!("Basic {}", STANDARD.encode(login)))
}

/// A realm that knows the user `u` with password `p`, and gives tokens named after who asks and how often.
fn realm(asked: &Asked) -> Answer {
    let token = |name: &str| Answer::ok(json!({"token": format!("{name}{}", asked.before)}).to_string());
    match &asked.authorization {
        None => token("anybody"),
        login if *login == basic("u:p") => token("user"),
        Some(_) => Answer::error(401, "UNAUTHORIZED"),
    }
}

/// A registry behind that realm which takes the tokens that `accepts` does, and refuses others with `status`.
async fn guarded(status: u16, accepts: fn(&str) -> bool) -> FakeRegistry {
    FakeRegistry::start(move |asked, registry| {
        if asked.path.starts_with("/token") {
            return Some(realm(asked));
        }
        match asked.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if accepts(token) => None,
            Some(_) if status != 401 => Some(Answer::error(status, "DENIED")),
            _ => Some(challenge(registry, 401)),
        }
    })
    .await
}

#[tokio::test]
async fn plain_http_without_login() {
    let registry = FakeRegistry::honest().await;
    let digest = put_image(&registry);
    assert_eq!(pull_quietly(&registry).await.unwrap(), digest);
    assert!(registry.asked("").iter().all(|asked| asked.authorization.is_none()));
    assert_eq!(registry.asked("/manifests/").iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>(), ["HEAD", "GET"]);
}

#[tokio::test]
async fn anonymous_token() {
    let registry = guarded(401, |token| token == "anybody0").await;
    let digest = put_image(&registry);
    assert_eq!(pull_quietly(&registry).await.unwrap(), digest);
    let asked = registry.asked("/token");
    assert_eq!(asked.len(), 1, "one token for the whole pull");
    assert!(asked[0].path.contains("scope=repository%3Aa%2Fb%3Apull") && asked[0].path.contains("service=test"), "{asked:?}");
}

#[tokio::test]
async fn token_for_a_stored_login() {
    let registry = guarded(401, |token| token == "user0").await;
    let digest = put_image(&registry);
    let (_directory, access) = stored_login(&registry, "u:p");
    assert_eq!(pull(&registry, &access, &|note| panic!("{note}")).await.unwrap(), digest);
    assert!(registry.asked("/token").iter().all(|asked| asked.authorization == basic("u:p")));
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let registry = FakeRegistry::start(|asked, registry| {
        if asked.path.starts_with("/token") {
            let is_exchange = asked.method == "POST" && asked.path == "/token" && asked.authorization.is_none();
            return Some(if is_exchange { Answer::ok(r#"{"access_token": "exchanged"}"#) } else { Answer::error(401, "UNAUTHORIZED") });
        }
        (asked.authorization.as_deref() != Some("Bearer exchanged")).then(|| challenge(registry, 401))
    })
    .await;
    let digest = put_image(&registry);
    let (directory, access) = stored_login(&registry, "u:p");
    let auths = json!({registry.host(): {"auth": STANDARD.encode("00000000-0000-0000-0000-000000000000:"), "identitytoken": "it&self"}});
    fs::write(directory.path().join("config.json"), json!({"auths": auths}).to_string()).unwrap();
    assert_eq!(pull(&registry, &access, &|note| panic!("{note}")).await.unwrap(), digest);
    let bodies = registry.bodies("/token");
    let wanted = "grant_type=refresh_token&service=test&scope=repository%3Aa%2Fb%3Apull&client_id=undocked&refresh_token=it%26self";
    assert_eq!(bodies, [wanted]);
}

/// Silence in the middle of a layer is a break as any other.
#[tokio::test]
async fn a_registry_that_falls_silent_is_asked_for_the_rest() {
    let registry = FakeRegistry::start(|asked, registry| {
        let is_layer = asked.path.ends_with(&Digest::of(LAYER).to_string());
        let usual = || registry.usual(&asked.path);
        match asked.before {
            0 if is_layer => Some(Answer { cut: Some(5), stalls: true, ..usual() }),
            1 if is_layer => {
                let range = format!("bytes 5-{}/{}", LAYER.len() - 1, LAYER.len());
                Some(Answer { status: 206, body: LAYER[5..].to_vec(), ..usual() }.with("content-range", range))
            }
            _ => None,
        }
    })
    .await;
    let digest = put_image(&registry);
    let mut access = RegistryAccess::default();
    access.patience.silence = std::time::Duration::from_millis(300);
    let told = std::sync::Mutex::new(Vec::new());
    assert_eq!(pull(&registry, &access, &|note| told.lock().unwrap().push(note.to_owned())).await.unwrap(), digest);
    let told = told.into_inner().unwrap();
    assert!(told.len() == 1 && told[0].contains(&format!("fell silent after 5 of {} bytes", LAYER.len())), "{told:?}");
    let asked = registry.asked(&Digest::of(LAYER).to_string());
    assert_eq!(asked.iter().map(|asked| asked.range.as_deref()).collect::<Vec<_>>(), [None, Some("bytes=5-")]);
}

#[tokio::test]
async fn password_without_token() {
    let registry = FakeRegistry::start(|asked, _| {
        let refused = || Answer::error(401, "UNAUTHORIZED").with("www-authenticate", r#"Basic realm="test""#);
        if asked.authorization == basic("u:p") { None } else { Some(refused()) }
    })
    .await;
    let digest = put_image(&registry);
    let (_directory, access) = stored_login(&registry, "u:p");
    assert_eq!(pull(&registry, &access, &|note| panic!("{note}")).await.unwrap(), digest);
    assert!(matches!(pull_quietly(&registry).await, Err(SourceError::Refused { .. })));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    for status in [400, 401, 403] {
        let registry = guarded(status, |token| token == "anybody1").await;
        let digest = put_image(&registry);
        assert_eq!(pull_quietly(&registry).await.unwrap(), digest, "{status}");
        assert_eq!(registry.asked("/token").len(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_stale_login_gives_way_to_none() {
    // The realm refuses it, or gives it tokens that the registry refuses.
    for (login, refusals) in [("u:wrong", 1), ("u:p", 2)] {
        let registry = guarded(403, |token| token.starts_with("anybody")).await;
        let digest = put_image(&registry);
        let (_directory, access) = stored_login(&registry, login);
        let notes = StdMutex::new(Vec::new());
        assert_eq!(pull(&registry, &access, &|note| notes.lock().unwrap().push(note.to_owned())).await.unwrap(), digest, "{login}");
        let notes = notes.into_inner().unwrap();
        assert!(notes.len() == 1 && notes[0].contains("refuses the stored login"), "{notes:?}");
        assert_eq!(registry.asked("/token").iter().filter(|asked| asked.authorization.is_some()).count(), refusals, "{login}");
    }
}

#[tokio::test]
async fn requests_at_the_same_time_agree_on_a_new_token() {
    for (login, accepts) in [(None, "anybody1"), (Some("u:p"), "user1"), (Some("u:p"), "anybody")] {
        let registry = FakeRegistry::start(move |asked, registry| {
            if asked.path.starts_with("/token") {
                return Some(realm(asked));
            }
            let is_accepted = asked.authorization.as_ref().is_some_and(|value| value.starts_with(&format!("Bearer {accepts}")));
            (!is_accepted).then(|| challenge(registry, 401))
        })
        .await;
        registry.put_blob(LAYER);
        let (_directory, stored) = stored_login(&registry, login.unwrap_or_default());
        let access = if login.is_some() { stored } else { RegistryAccess::default() };
        let notes = StdMutex::new(0);
        let note = |_: &str| *notes.lock().unwrap() += 1;
        let source = Source::registry(&reference(&registry), &access, &note).unwrap();
        let layer = layer();
        let (one, two, three) = tokio::join!(source.blob(&layer), source.blob(&layer), source.blob(&layer));
        for outcome in [one, two, three] {
            assert!(outcome.is_ok(), "{login:?} {accepts}: {:?}", outcome.err());
        }
        let said = *notes.lock().unwrap();
        assert_eq!(said, usize::from(login.is_some() && accepts == "anybody"), "{login:?} {accepts}");
    }
}

#[tokio::test]
async fn a_refusal_ends_with_a_hint() {
    let registry = guarded(403, |_| false).await;
    put_image(&registry);
    let (_directory, access) = stored_login(&registry, "u:p");
    for access in [access, RegistryAccess::default()] {
        let error = pull(&registry, &access, &|_| {}).await.unwrap_err();
        assert!(matches!(&error, SourceError::Refused { answer, .. } if answer.contains("403")), "{error:?}");
        assert!(error.to_string().contains(&registry.host()) && error.to_string().contains("tag `c` of `a/b`"), "{error}");
        assert!(error.hint().unwrap().contains("undocked login"));
    }
}

#[tokio::test]
async fn nothing_there() {
    let registry = FakeRegistry::honest().await;
    let error = pull_quietly(&registry).await.unwrap_err();
    assert!(matches!(&error, SourceError::NotFound { .. }), "{error:?}");
    assert!(error.to_string().contains("has no tag `c` of `a/b`"), "{error}");
    assert!(registry.asked("/manifests/").iter().all(|asked| asked.before == 0), "not found is not tried again");
}

#[tokio::test]
async fn server_faults_pass() {
    for (faults, works) in [(4, true), (5, false)] {
        for part in ["/manifests/sha256:", "/blobs/"] {
            let registry = FakeRegistry::start(move |asked, _| {
                (asked.path.contains(part) && asked.before < faults).then(|| Answer::error(503, "UNAVAILABLE"))
            })
            .await;
            put_image(&registry);
            let outcome = pull_quietly(&registry).await;
            assert_eq!(outcome.is_ok(), works, "{part} {faults}: {outcome:?}");
            if let Err(error) = outcome {
                assert!(matches!(&error, SourceError::Answer { answer, .. } if answer.starts_with("503")), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_cut_manifest_is_asked_for_again() {
    let registry = FakeRegistry::start(|asked, registry| {
        let cut = asked.path.contains("/manifests/sha256:") && asked.before == 0;
        cut.then(|| Answer { cut: Some(20), ..registry.usual(&asked.path) })
    })
    .await;
    let digest = put_image(&registry);
    assert_eq!(pull_quietly(&registry).await.unwrap(), digest);
}

#[tokio::test]
async fn wrong_bytes() {
    for (part, what) in [("/manifests/sha256:", "manifest"), ("/blobs/", "image config")] {
        let registry = FakeRegistry::start(move |asked, registry| {
            let mut answer = registry.usual(&asked.path);
            let last = answer.body.len().checked_sub(2).filter(|_| asked.path.contains(part))?;
            answer.body[last] ^= 1;
            Some(Answer { headers: Vec::new(), ..answer })
        })
        .await;
        let digest = put_image(&registry);
        let error = pull_quietly(&registry).await.unwrap_err();
        let SourceError::Digest { wanted, found, .. } = &error else { panic!("{error:?}") };
        assert!(wanted.contains(what) && found.starts_with("sha256:") && !wanted.contains(found), "{error}");
        assert!(what != "manifest" || wanted.contains(&digest.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_huge_manifest_is_refused() {
    let registry = FakeRegistry::honest().await;
    registry.put_manifest(&json!({"schemaVersion": 2, "x": "x".repeat(5 << 20)}), Some("c"));
    assert!(matches!(pull_quietly(&registry).await, Err(SourceError::TooLarge { document: "manifest", .. })));
}

#[tokio::test]
async fn blobs_of_another_length() {
    type Change = fn(Answer) -> Answer;
    let changes: [(&str, Change); 4] = [
        ("short", |answer| Answer { body: answer.body[..5].to_vec(), ..answer }),
        ("long", |answer| Answer { body: [answer.body, b"more".to_vec()].concat(), ..answer }),
        ("short without length", |answer| Answer { body: answer.body[..5].to_vec(), ..answer }.with("transfer-encoding", "chunked")),
        ("cut", |answer| Answer { cut: Some(5), ..answer }),
    ];
    for (name, change) in changes {
        let registry = FakeRegistry::start(move |asked, registry| {
            let is_layer = asked.path.ends_with(&Digest::of(LAYER).to_string());
            is_layer.then(|| change(registry.usual(&asked.path)))
        })
        .await;
        put_image(&registry);
        let error = pull_quietly(&registry).await.expect_err(name);
        match &error {
            SourceError::Broken { received, .. } => assert_eq!((name, *received), ("cut", 5), "{error}"),
            SourceError::Size { received, expected, .. } => assert_ne!(received, expected, "{name}: {error}"),
            _ => panic!("{name}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_redirect_takes_no_token_along() {
    let elsewhere = FakeRegistry::honest().await;
    elsewhere.put_blob(LAYER);
    let host = elsewhere.host();
    let registry = FakeRegistry::start(move |asked, registry| match &asked.authorization {
        _ if asked.path.starts_with("/token") => Some(realm(asked)),
        None => Some(challenge(registry, 401)),
        Some(_) if asked.path.ends_with(&Digest::of(LAYER).to_string()) => {
            Some(Answer::status(307).with("location", format!("http://{host}{}", asked.path)))
        }
        Some(_) => None,
    })
    .await;
    put_image(&registry);
    pull_quietly(&registry).await.unwrap();
    let asked = elsewhere.asked("");
    assert!(asked.len() == 1 && asked[0].authorization.is_none(), "{asked:?}");
}

#[tokio::test]
async fn platforms_are_chosen_through_indexes() {
    let entry = |digest: Digest, media_type: &str, platform: Value| json!({"mediaType": media_type, "digest": digest, "size": 1, "platform": platform});
    let index = |entries: Value| json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let registry = FakeRegistry::honest().await;
    let image = put_image(&registry);
    let amd64 = json!({"os": "linux", "architecture": "amd64"});
    let other = entry(Digest::of(b"x"), MANIFEST, json!({"os": "linux", "architecture": "arm64"}));

    let mut inner = registry.put_manifest(&index(json!([other, entry(image, MANIFEST, amd64)])), Some("c"));
    for depth in 1..=3 {
        let outcome = pull_quietly(&registry).await;
        assert_eq!(outcome.as_ref().ok(), (depth <= 2).then_some(&image), "{depth}: {outcome:?}");
        inner = registry.put_manifest(&index(json!([entry(inner, INDEX, Value::Null)])), Some("c"));
    }

    registry.put_manifest(&index(json!([other])), Some("c"));
    let error = pull_quietly(&registry).await.unwrap_err();
    assert!(matches!(&error, SourceError::Manifest { .. }) && error.hint().unwrap().contains("--platform"), "{error:?}");
    registry.put_manifest(&json!({"schemaVersion": 1, "name": "a/b", "fsLayers": []}), Some("c"));
    assert!(matches!(pull_quietly(&registry).await, Err(SourceError::Manifest { .. })));
}

#[tokio::test]
async fn nobody_listens() {
    let registry = FakeRegistry::honest().await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reference = format!("{dead}/a/b:c").parse().unwrap();
    let source = RegistrySource::new(&reference, &RegistryAccess::default(), &|_| {}).unwrap();
    let error = source.current().await.unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable { .. }) && error.hint().unwrap().contains("nothing listens there"), "{error:?}");

    // TLS is spoken to a registry that does not know it.
    let certificates = tempfile::tempdir().unwrap();
    fs::create_dir(certificates.path().join(registry.host())).unwrap();
    let access = RegistryAccess { certificates: vec![certificates.path().to_owned()], ..RegistryAccess::default() };
    let error = pull(&registry, &access, &|_| {}).await.unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("--insecure-registry")), "{error:?}");
}

#[test]
fn plain_http_is_for_loopback_and_declared_hosts() {
    let insecure = ["registry.test:5000".to_owned(), "plain.test".to_owned()];
    for (host, plain) in [
        ("localhost:5000", true),
        ("127.9.9.9:5000", true),
        ("[::1]:5000", true),
        ("registry.test:5000", true),
        ("registry.test:5001", false),
        ("plain.test:77", true),
        ("localhost.evil.test", false),
        ("127.0.0.1.evil.test", false),
        ("10.0.0.1:5000", false),
        ("docker.io", false),
    ] {
        let reference = format!("{host}/a/b").parse().unwrap();
        let place = Place { reference, transport: Transport::Usual, asked_for: AskedFor::All };
        assert_eq!(place.is_plain(&insecure), plain, "{host}");
    }
}
