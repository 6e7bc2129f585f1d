//! Writing to a real registry, plain and behind tokens, and reading what pulls do not read.

use std::fs;
use std::io::{self, Cursor};
use std::sync::atomic::{AtomicUsize, Ordering};

use rootfs_cache::digest::Digest;
use rootfs_cache::manifest::Descriptor;
use rootfs_cache::reference::RegistryReference;
use rootfs_cache::source::repository::{ManifestName, Purpose, Repository, Uploaded};
use rootfs_cache::source::{RegistryAccess, SourceError};
use serde_json::json;
use tests::faulty_proxy::{FaultyProxy, Then};
use tests::image::{Image, own_architecture};
use tests::real_registry::{RealRegistry, Style};
use tests::wire::Reply;
use tests::{place, wire};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor { media_type: "application/octet-stream".to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn reference(address: &str, repository: &str) -> RegistryReference {
    format!("{address}/{repository}:x").parse().expect("a reference")
}

/// Access with no waits between tries.
fn access() -> RegistryAccess {
    let mut access = RegistryAccess::default();
    access.patience.base = std::time::Duration::from_millis(1);
    access
}

/// Access with the login that the token server knows, or with another.
fn access_with_login(folder: &std::path::Path, address: &str, login: &str) -> RegistryAccess {
    use base64::Engine as _;
    let file = folder.join("config.json");
    let auth = base64::engine::general_purpose::STANDARD.encode(login);
    fs::write(&file, json!({"auths": {address: {"auth": auth}}}).to_string()).expect("written");
    RegistryAccess { logins: vec![file], ..access() }
}

fn wait<T>(future: impl Future<Output = T> + Send) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// Pushes an image by its parts; gives its manifest's bytes.
async fn push(repository: &Repository<'_>, image: &Image, tag: &str) -> Result<Vec<u8>, SourceError> {
    let config = image.config_blob(own_architecture());
    for blob in image.layers.iter().map(|layer| &layer.blob).chain([&config]) {
        repository.upload(&descriptor(blob), || Ok(Cursor::new(blob.clone()))).await?;
    }
    let manifest = image.manifest(&config);
    let digest = repository.put_manifest(tag.into(), MANIFEST, &manifest).await?;
    assert_eq!(digest, Digest::of(&manifest));
    Ok(manifest)
}

#[test]
fn what_is_pushed_is_there() {
    let Some(registry) = RealRegistry::start() else { return };
    let access = access();
    let quiet = |note: &str| panic!("{note}");
    let repository = Repository::open(&reference(registry.address(), "team/app"), &access, Purpose::Push, &quiet).expect("opened");
    let image = Image::provided();
    let blob = image.layers[0].blob.clone();
    wait(async {
        assert!(!repository.has_blob(&Digest::of(&blob)).await.expect("an answer"));
        let manifest = push(&repository, &image, "1").await.expect("pushed");
        assert!(repository.has_blob(&Digest::of(&blob)).await.expect("an answer"));
        let again = repository.upload(&descriptor(&blob), || -> io::Result<io::Empty> { panic!("it is there") }).await;
        assert_eq!(again.expect("an answer"), Uploaded::Present);
        let empty = repository.upload(&descriptor(b""), || Ok(io::empty())).await;
        assert_eq!(empty.expect("an answer"), Uploaded::Now);

        let digest = Digest::of(&manifest);
        repository.put_manifest("2".into(), MANIFEST, &manifest).await.expect("stored");
        repository.put_manifest((&digest).into(), MANIFEST, &manifest).await.expect("stored");
        assert_eq!(repository.resolve("2").await.expect("an answer"), digest);
        for name in [ManifestName::Tag("1"), ManifestName::Digest(&digest)] {
            let fetched = repository.manifest(name).await.expect("an answer").expect("there");
            assert_eq!((fetched.digest, fetched.media_type.as_str(), &fetched.bytes), (digest, MANIFEST, &manifest));
        }
        assert_eq!(repository.manifest("sha256-0.sig".into()).await.expect("an answer"), None);
        assert_eq!(repository.small_blob(&descriptor(&blob), 64 << 20).await.expect("an answer"), blob);
        assert!(matches!(repository.small_blob(&descriptor(&blob), 3).await, Err(SourceError::TooLarge { .. })));
        // This version of the registry keeps no such lists.
        assert_eq!(repository.referrers(&digest).await.expect("an answer"), None);
    });
    let (status, _, body) =
        wire::request(registry.address(), "GET", "/v2/team/app/manifests/1", &[("Accept", MANIFEST)], b"").expect("it answers");
    assert_eq!((status, Digest::of(&body)), (200, wait(repository.resolve("1")).expect("an answer")));
}

#[test]
fn a_blob_is_taken_over_from_another_repository() {
    let Some(registry) = RealRegistry::start() else { return };
    let access = access();
    let open = |name: &str| Repository::open(&reference(registry.address(), name), &access, Purpose::Push, &|_| {}).expect("opened");
    let (from, to) = (open("team/from"), open("team/to"));
    let blob = b"shared".to_vec();
    wait(async {
        from.upload(&descriptor(&blob), || Ok(Cursor::new(blob.clone()))).await.expect("uploaded");
        assert!(to.mount(&Digest::of(&blob), "team/from").await.expect("an answer"));
        assert!(to.has_blob(&Digest::of(&blob)).await.expect("an answer"));
        assert!(!to.mount(&Digest::of(b"nowhere"), "team/from").await.expect("an answer"));
    });
}

#[test]
fn tags_come_page_by_page() {
    let Some(registry) = RealRegistry::start() else { return };
    registry.push(&Image::provided(), "team/app", "last", Style::Docker);
    // This version of the registry gives all tags at once.
    let proxy = FaultyProxy::start(registry.address(), |request, _| {
        let page = |tag: &str, next: &str| {
            Then::Answer(Reply::new(200, json!({"tags": [tag]}).to_string()).header("Link", format!("<{next}>; rel=\"next\"")))
        };
        match request.path.as_str() {
            "/v2/team/app/tags/list" => page("first", "/v2/team/app/tags/list?n=1&last=first"),
            "/v2/team/app/tags/list?n=1&last=first" => page("second", "list?n=1"),
            _ => Then::PassOn,
        }
    });
    let access = access();
    let repository = Repository::open(&reference(&proxy.address(), "team/app"), &access, Purpose::Pull, &|_| {}).expect("opened");
    assert_eq!(wait(repository.tags()).expect("an answer"), ["first", "second", "last"]);
}

#[test]
fn a_push_needs_the_login_and_gets_a_token_for_it() {
    let Some(registry) = RealRegistry::start() else { return };
    let guarded = registry.with_tokens();
    let folder = place::scratch();
    let access = access_with_login(folder.path(), guarded.address(), "test:secret");
    let quiet = |note: &str| panic!("{note}");
    let repository = Repository::open(&reference(guarded.address(), "team/app"), &access, Purpose::Push, &quiet).expect("opened");
    wait(push(&repository, &Image::provided(), "1")).expect("pushed");
    let counts = guarded.token_counts();
    assert_eq!((counts["user"].as_u64(), counts["anonymous"].as_u64()), (Some(1), Some(0)), "one token for all of it");

    // Nobody, and somebody whom the registry does not know: no quiet try without the login.
    for login in [None, Some("test:wrong")] {
        let access = login.map_or_else(self::access, |login| access_with_login(folder.path(), guarded.address(), login));
        let repository = Repository::open(&reference(guarded.address(), "team/other"), &access, Purpose::Push, &quiet).expect("opened");
        let error = wait(push(&repository, &Image::provided(), "1")).expect_err("refused");
        assert!(matches!(error, SourceError::Refused { .. }), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("undocked login")), "{error:?}");
    }
}

/// A token that runs out between two requests, one of which has a body.
#[test]
fn a_token_that_expires_in_mid_push_is_renewed() {
    let Some(registry) = RealRegistry::start() else { return };
    let guarded = registry.with_tokens();
    let folder = place::scratch();
    let refused = AtomicUsize::new(0);
    let proxy = FaultyProxy::start(guarded.address(), move |request, _| {
        let first = request.method == "PATCH" && refused.fetch_add(1, Ordering::SeqCst) == 0;
        // As `public.ecr.aws` does it.
        if first { Then::Answer(Reply::new(400, "expired")) } else { Then::PassOn }
    });
    let access = access_with_login(folder.path(), &proxy.address(), "test:secret");
    let repository = Repository::open(&reference(&proxy.address(), "team/app"), &access, Purpose::Push, &|_| {}).expect("opened");
    wait(push(&repository, &Image::provided(), "1")).expect("pushed");
    assert_eq!(guarded.token_counts()["user"], 2);
}

#[test]
fn an_upload_that_breaks_off_begins_anew() {
    let Some(registry) = RealRegistry::start() else { return };
    for method in ["POST", "PATCH", "PUT"] {
        let broken = AtomicUsize::new(0);
        let proxy = FaultyProxy::start(registry.address(), move |request, _| {
            let first = request.method == method && broken.fetch_add(1, Ordering::SeqCst) == 0;
            if first { Then::Close } else { Then::PassOn }
        });
        let access = access();
        let repository = Repository::open(&reference(&proxy.address(), "team/app"), &access, Purpose::Push, &|_| {}).expect("opened");
        let blob = vec![method.len() as u8; 1 << 20].into_iter().chain(method.bytes()).collect::<Vec<u8>>();
        let opened = AtomicUsize::new(0);
        let uploaded = wait(repository.upload(&descriptor(&blob), || {
            opened.fetch_add(1, Ordering::SeqCst);
            Ok(Cursor::new(blob.clone()))
        }));
        assert_eq!(uploaded.expect("uploaded"), Uploaded::Now, "{method}");
        assert_eq!(opened.into_inner(), if method == "POST" { 1 } else { 2 }, "{method}");
        assert_eq!(wait(repository.small_blob(&descriptor(&blob), 2 << 20)).expect("there"), blob, "{method}");
    }
}

#[test]
fn what_arrives_changed_is_refused_by_the_registry() {
    let Some(registry) = RealRegistry::start() else { return };
    let access = access();
    let repository = Repository::open(&reference(registry.address(), "team/app"), &access, Purpose::Push, &|_| {}).expect("opened");
    let blob = descriptor(b"what it should be");
    let error = wait(repository.upload(&blob, || Ok(Cursor::new(b"what it is not be")))).expect_err("refused");
    assert!(error.to_string().contains("DIGEST_INVALID") || error.to_string().contains("400"), "{error}");
    assert!(!wait(repository.has_blob(&blob.digest)).expect("an answer"));
}
