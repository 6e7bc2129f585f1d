use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::lock::{Pin, PinStatus};
use crate::source::fake_registry::{Answer, FakeRegistry};
use crate::store::PruneScope;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image whose layers are one file each, `NAME` with content `NAME`.
struct Made {
    blobs: Vec<Vec<u8>>,
    manifest: Value,
}

fn image(layers: &[&str]) -> Made {
    let tars: Vec<Vec<u8>> = layers.iter().map(|name| tar_of(name)).collect();
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
    image_with(tars, &diff_ids)
}

fn image_with(tars: Vec<Vec<u8>>, diff_ids: &[Digest]) -> Made {
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {"Env": ["A=b"]}});
    let mut blobs: Vec<Vec<u8>> = tars.into_iter().map(|tar| gzip(&tar)).collect();
    let descriptor = |blob: &[u8], media_type| json!({"mediaType": media_type, "digest": Digest::of(blob), "size": blob.len()});
    let layers: Vec<Value> = blobs.iter().map(|blob| descriptor(blob, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
    blobs.push(config.to_string().into_bytes());
    let config = descriptor(blobs.last().unwrap(), "application/vnd.oci.image.config.v1+json");
    Made { manifest: json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}), blobs }
}

fn tar_of(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(name.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, name.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn index_of(manifest: Digest) -> Value {
    let entry = json!({"mediaType": MANIFEST, "digest": manifest, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}});
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
}

impl Made {
    fn digest(&self) -> Digest {
        Digest::of(self.manifest.to_string().as_bytes())
    }

    fn layer(&self, n: usize) -> Digest {
        Digest::of(&self.blobs[n])
    }

    fn push(&self, registry: &FakeRegistry, tag: Option<&str>) {
        for blob in &self.blobs {
            registry.put_blob(blob);
        }
        registry.put_manifest(&self.manifest, tag);
    }

    fn save(&self, layout: &Path, name: &str) {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let manifest = self.manifest.to_string().into_bytes();
        for blob in self.blobs.iter().chain([&manifest]) {
            fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
        }
        let entry = json!({"mediaType": MANIFEST, "digest": self.digest(), "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": name}});
        fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    }
}

/// A cache, a registry, and what was told.
struct Bench {
    directory: tempfile::TempDir,
    cache: Arc<Cache>,
    registry: FakeRegistry,
    options: PullOptions,
    notes: Mutex<Vec<String>>,
    events: Mutex<Vec<String>>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(FakeRegistry::honest().await)
    }

    fn with(registry: FakeRegistry) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(&directory.path().join("cache")).unwrap());
        let options = PullOptions { platform: "linux/amd64".parse().unwrap(), ..PullOptions::default() };
        Self { directory, cache, registry, options, notes: Mutex::default(), events: Mutex::default() }
    }

    /// `a/b` of the registry, with a tag or digest.
    fn reference(&self, rest: &str) -> ImageReference {
        format!("{}/a/b{rest}", self.registry.host()).parse().unwrap()
    }

    async fn obtain(&self, reference: &ImageReference) -> Result<Rootfs, PullError> {
        let observer = |event: PullEvent<'_>| match event {
            PullEvent::Note(note) => self.notes.lock().unwrap().push(note.to_owned()),
            PullEvent::LayerProgress { .. } => {}
            other => self.events.lock().unwrap().push(format!("{other:?}")),
        };
        fn sendable<T: Send>(future: T) -> T {
            future
        }
        sendable(obtain(&self.cache, reference, &self.options, &observer)).await
    }

    fn lookup(&self, reference: &ImageReference) -> Result<Option<Digest>, PullError> {
        Ok(lookup(&self.cache, reference, &self.options)?.map(|rootfs| *rootfs.manifest_digest()))
    }

    /// What the registry was asked since the last call.
    fn requests(&self) -> usize {
        static SEEN: Mutex<Option<std::collections::HashMap<String, usize>>> = Mutex::new(None);
        let now = self.registry.asked("").len();
        let before = SEEN.lock().unwrap().get_or_insert_default().insert(self.registry.host(), now);
        now - before.unwrap_or(0)
    }

    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }

    /// Nothing half-made: no image, and nothing that is not a whole layer.
    fn assert_nothing_half_made(&self) {
        assert!(self.cache.images().unwrap().is_empty());
        self.cache.prune(PruneScope::Unreferenced).unwrap();
        for name in ["layers", "images", "tmp"] {
            let path = self.cache.root().join("v1").join(name);
            let left: Vec<_> = fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{name}: {left:?}");
        }
    }

    /// A user's lock file with an entry for `a/b:c`.
    fn lock(&mut self, runtime: Option<&str>, pinned: Option<(Digest, PinStatus)>) {
        let ImageReference::Registry(reference) = self.reference(":c") else { panic!() };
        let pin = pinned.map(|(manifest, status)| Pin {
            manifest,
            status,
            source: "the test".to_owned(),
            trust: None,
            resolved_at: None,
            manifest_size: None,
            index: None,
            config: None,
            layers: Vec::new(),
        });
        let runtime = runtime.map(|runtime| runtime.parse().unwrap());
        let image = LockedImage { reference, platform: self.options.platform.clone(), runtime, dated_tag: None, pin, notes: Vec::new() };
        let path = self.directory.path().join("config/user.lock");
        edit::change(&path, |file| file.put(image)).unwrap();
        self.options.locks.user = Some(path);
    }
}

#[tokio::test]
async fn from_a_layout() {
    let bench = Bench::new().await;
    let layout = bench.directory.path().join("layout");
    let made = image(&["x", "y"]);
    made.save(&layout, "lambci/lambda:x");
    let reference = format!("oci:{}:lambci/lambda:x", layout.display()).parse().unwrap();
    assert!(bench.lookup(&reference).unwrap().is_none());
    let rootfs = bench.obtain(&reference).await.unwrap();
    assert_eq!(fs::read_to_string(rootfs.path().join("y")).unwrap(), "y");
    assert_eq!(rootfs.config().env, [("A".to_owned(), "b".to_owned())]);
    assert_eq!(bench.lookup(&reference).unwrap(), Some(made.digest()));

    let changed = image(&["z"]);
    changed.save(&layout, "lambci/lambda:x");
    assert_eq!(bench.lookup(&reference).unwrap(), None, "a layout is asked, not remembered");
    assert_eq!(bench.obtain(&reference).await.unwrap().manifest_digest(), &changed.digest());
}

#[tokio::test]
async fn a_cached_image_asks_nobody() {
    let mut bench = Bench::new().await;
    let made = image(&["x"]);
    made.push(&bench.registry, Some("c"));
    let index = bench.registry.put_manifest(&index_of(made.digest()), Some("indexed"));
    for (rest, asks_when_first) in
        [(":c".to_owned(), true), (format!("@{}", made.digest()), false), (format!("@{index}"), true), (":indexed".to_owned(), true)]
    {
        let reference = bench.reference(&rest);
        bench.requests();
        assert_eq!(bench.obtain(&reference).await.unwrap().manifest_digest(), &made.digest(), "{rest}");
        assert_eq!(bench.requests() > 0, asks_when_first, "{rest}");
        bench.obtain(&reference).await.unwrap();
        assert_eq!(bench.lookup(&reference).unwrap(), Some(made.digest()), "{rest}");
        assert_eq!(bench.requests(), 0, "{rest}");
    }

    bench.options.policy = PullPolicy::Always;
    let reference = bench.reference(":c");
    assert!(bench.lookup(&reference).unwrap().is_none());
    let moved = image(&["y"]);
    moved.push(&bench.registry, Some("c"));
    assert_eq!(bench.obtain(&reference).await.unwrap().manifest_digest(), &moved.digest());

    bench.requests();
    let by_digest = bench.reference(&format!("@{}", made.digest()));
    assert_eq!(bench.lookup(&by_digest).unwrap(), Some(made.digest()), "a digest never means anything else");
    bench.obtain(&by_digest).await.unwrap();
    assert_eq!(bench.requests(), 0);

    bench.options.policy = PullPolicy::Never;
    assert_eq!(bench.lookup(&reference).unwrap(), Some(moved.digest()));
    assert!(matches!(bench.obtain(&bench.reference(":other")).await, Err(PullError::NotCached(_))));
}

/// The TUF specification, 5.6: what is got must have the length that is signed.
#[tokio::test]
async fn what_has_another_size_than_is_signed_is_refused() {
    let mut bench = Bench::new().await;
    let made = image(&["x"]);
    made.push(&bench.registry, None);
    let index = index_of(made.digest());
    let (size, index_size) = (made.manifest.to_string().len() as u64, index.to_string().len() as u64);
    let index = bench.registry.put_manifest(&index, None);
    for is_cached in [false, true] {
        for (digest, right) in [(made.digest(), size), (index, index_size)] {
            let reference = bench.reference(&format!("@{digest}"));
            bench.options.signed_size = Some(right + 1);
            if digest == index && is_cached {
                // The cache keeps no index: its size was compared when it was pulled.
                continue;
            }
            match bench.obtain(&reference).await {
                Err(PullError::Source { source: SourceError::Size { received, .. }, .. }) => assert_eq!(received, right),
                other => panic!("{digest}, cached {is_cached}: {other:?}"),
            }
        }
        for (digest, right) in [(made.digest(), size), (index, index_size)] {
            bench.options.signed_size = Some(right);
            bench.obtain(&bench.reference(&format!("@{digest}"))).await.unwrap();
        }
    }
}

#[tokio::test]
async fn layers_are_fetched_once() {
    let bench = Bench::new().await;
    let large = "a-longer-name-makes-a-larger-layer-0123456789abcdefghijklmnopqrstuvwxyz";
    let made = image(&["x", large, "x"]);
    made.push(&bench.registry, Some("c"));
    let rootfs = bench.obtain(&bench.reference(":c")).await.unwrap();
    assert_eq!(fs::read_to_string(rootfs.path().join(large)).unwrap(), large);
    let started =
        |bench: &Bench| bench.events.lock().unwrap().iter().filter(|event| event.starts_with("LayerStarted")).cloned().collect::<Vec<_>>();
    assert_eq!(started(&bench).len(), 2);

    let other = image(&["x", "y"]);
    other.push(&bench.registry, Some("d"));
    bench.obtain(&bench.reference(":d")).await.unwrap();
    assert_eq!(started(&bench).len(), 3, "the shared layer was there");
}

#[tokio::test]
async fn blobs_are_kept_where_that_is_wanted() {
    let mut bench = Bench::new().await;
    let (made, other) = (image(&["x", "y"]), image(&["x", "z"]));
    made.push(&bench.registry, Some("c"));
    other.push(&bench.registry, Some("d"));
    let (reference, both) = (bench.reference(":c"), bench.reference(":d"));
    let kept = |bench: &Bench, made: &Made| {
        [0, 1].map(|n| {
            bench
                .cache
                .blob(&made.layer(n))
                .unwrap()
                .map(|mut file| {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
                    assert_eq!(bytes, made.blobs[n]);
                })
                .is_some()
        })
    };
    bench.obtain(&reference).await.unwrap();
    assert_eq!(kept(&bench, &made), [false, false]);
    bench.options.blobs = KeepBlobs::Yes;
    bench.obtain(&both).await.unwrap();
    assert_eq!(kept(&bench, &other), [true, true], "of the layer that was there, too");
    bench.options.policy = PullPolicy::Never;
    assert_eq!(bench.lookup(&reference).unwrap(), Some(made.digest()), "where nobody may be asked the image is enough");
    bench.options.policy = PullPolicy::Missing;
    assert_eq!(bench.lookup(&reference).unwrap(), None);
    bench.requests();
    for asked in [true, false] {
        bench.obtain(&reference).await.unwrap();
        assert_eq!((kept(&bench, &made), bench.requests() > 0), ([true, true], asked));
    }
}

#[tokio::test]
async fn a_damaged_blob_is_not_kept() {
    let made = image(&["x"]);
    let path = format!("/blobs/{}", made.layer(0));
    let honest = Arc::new(AtomicBool::new(true));
    let is_honest = Arc::clone(&honest);
    let registry = FakeRegistry::start(move |asked, registry| {
        let lies = asked.path.ends_with(&path) && !is_honest.load(Ordering::Relaxed);
        lies.then(|| {
            let mut answer = registry.usual(&asked.path);
            answer.body[20] ^= 1;
            answer
        })
    })
    .await;
    let mut bench = Bench::with(registry);
    made.push(&bench.registry, Some("c"));
    for layer_is_there in [false, true] {
        if layer_is_there {
            honest.store(true, Ordering::Relaxed);
            bench.options.blobs = KeepBlobs::No;
            bench.obtain(&bench.reference(":c")).await.unwrap();
        }
        honest.store(false, Ordering::Relaxed);
        bench.options.blobs = KeepBlobs::Yes;
        let error = bench.obtain(&bench.reference(":c")).await.unwrap_err();
        let says_digest = |error: &PullError| {
            matches!(error, PullError::Unpack { source: UnpackError::Digest { .. }, .. })
                || matches!(error, PullError::Source { source: SourceError::Digest { .. }, .. })
        };
        assert!(says_digest(&error), "{error:?}");
        assert!(bench.cache.blob(&made.layer(0)).unwrap().is_none());
        assert_eq!(fs::read_dir(bench.cache.root().join("v1/tmp")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn pulls_at_the_same_time_share_their_work() {
    let bench = Bench::new().await;
    let made = image(&["x", "y", "z"]);
    made.push(&bench.registry, Some("c"));
    let reference = bench.reference(":c");
    let (one, two) = tokio::join!(bench.obtain(&reference), bench.obtain(&reference));
    assert_eq!(one.unwrap().path(), two.unwrap().path());
    for n in 0..3 {
        assert_eq!(bench.registry.asked(&made.layer(n).to_string()).len(), 1);
    }
}

#[tokio::test]
async fn damaged_layers() {
    let flip: fn(Answer) -> Answer = |mut answer| {
        let middle = answer.body.len() / 2;
        answer.body[middle] ^= 1;
        answer
    };
    let cut: fn(Answer) -> Answer = |answer| Answer { cut: Some(answer.body.len() / 2), ..answer };
    let short: fn(Answer) -> Answer = |answer| Answer { body: answer.body[..40].to_vec(), ..answer };
    let made = image(&["x", "y"]);
    let bad = made.layer(1).to_string();
    for (name, change) in [("flip", flip), ("cut", cut), ("short", short)] {
        let path = format!("/blobs/{bad}");
        let registry =
            FakeRegistry::start(move |asked, registry| asked.path.ends_with(&path).then(|| change(registry.usual(&asked.path)))).await;
        let bench = Bench::with(registry);
        made.push(&bench.registry, Some("c"));
        let error = bench.obtain(&bench.reference(":c")).await.expect_err(name);
        let chain = chain(&error);
        assert!(chain.contains(&bad), "{name}: {chain}");
        match (name, &error) {
            ("flip", PullError::Source { source: SourceError::Digest { found, .. }, .. }) => assert_ne!(*found, bad),
            ("flip", PullError::Unpack { source: UnpackError::Digest { found, .. }, .. }) => assert_ne!(found.to_string(), bad),
            ("cut", PullError::Source { source: SourceError::Broken { .. }, .. }) => {}
            ("short", PullError::Source { source: SourceError::Size { .. }, .. }) => {}
            _ => panic!("{name}: {error:?}"),
        }
        assert!(bench.lookup(&bench.reference(":c")).unwrap().is_none());
        bench.assert_nothing_half_made();
    }
}

fn chain(error: &PullError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_config_says() {
    let bench = Bench::new().await;
    let lie = Digest::of(b"another tar");
    let made = image_with(vec![tar_of("x")], &[lie]);
    made.push(&bench.registry, Some("c"));
    for attempt in ["fetched", "in the cache"] {
        let error = bench.obtain(&bench.reference(":c")).await.expect_err(attempt);
        assert!(
            matches!(error, PullError::DiffId { wanted, found, .. } if wanted == lie && found == Digest::of(&tar_of("x"))),
            "{attempt}"
        );
        bench.assert_nothing_half_made();
        let honest = image(&["x"]);
        honest.push(&bench.registry, Some("honest"));
        bench.obtain(&bench.reference(":honest")).await.unwrap();
        bench.cache.remove(&honest.digest()).unwrap();
    }
}

#[tokio::test]
async fn a_pull_given_up_leaves_nothing() {
    let registry = FakeRegistry::start(|asked, registry| {
        let usual = registry.usual(&asked.path);
        let is_layer = usual.body.starts_with(b"\x1f\x8b");
        is_layer.then_some(Answer { cut: Some(usual.body.len() / 2), stalls: true, ..usual })
    })
    .await;
    let bench = Bench::with(registry);
    image(&["x", "y"]).push(&bench.registry, Some("c"));
    let reference = bench.reference(":c");
    {
        let mut pull = Box::pin(bench.obtain(&reference));
        let under_way = || bench.events.lock().unwrap().iter().filter(|event| event.starts_with("LayerStarted")).count() == 2;
        while !under_way() {
            assert!(futures_util::future::poll_immediate(pull.as_mut()).await.is_none());
            tokio::task::yield_now().await;
        }
    }
    // The unpackers notice that the pull has gone, and end by themselves.
    while fs::read_dir(bench.cache.root().join("v1/tmp")).unwrap().next().is_some() {
        tokio::task::yield_now().await;
    }
    bench.assert_nothing_half_made();
}

#[tokio::test]
async fn a_verified_pin_needs_no_tag() {
    let mut bench = Bench::new().await;
    let pinned = image(&["x"]);
    pinned.push(&bench.registry, None);
    bench.lock(Some("nodejs12.x"), Some((pinned.digest(), PinStatus::Verified)));
    bench.options.frozen = true;
    for reference in ["nodejs12.x".parse().unwrap(), bench.reference(":c")] {
        assert_eq!(bench.obtain(&reference).await.unwrap().manifest_digest(), &pinned.digest());
        assert_eq!(bench.lookup(&reference).unwrap(), Some(pinned.digest()));
    }
    assert!(bench.notes().is_empty());
}

#[tokio::test]
async fn other_content_than_the_pin_is_refused() {
    for (policy, pinned_is_there) in [(PullPolicy::Always, true), (PullPolicy::Missing, true), (PullPolicy::Missing, false)] {
        let mut bench = Bench::new().await;
        let (pinned, moved) = (image(&["x"]), image(&["y"]));
        moved.push(&bench.registry, Some("c"));
        if pinned_is_there {
            pinned.push(&bench.registry, None);
        }
        bench.lock(None, Some((pinned.digest(), PinStatus::Verified)));
        bench.options.policy = policy;
        let error = bench.obtain(&bench.reference(":c")).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, PullError::Pinned { .. }), "{error:?}");
        assert!(text.contains(&pinned.digest().to_string()) && text.contains(&moved.digest().to_string()), "{text}");
        bench.assert_nothing_half_made();
    }
}

#[tokio::test]
async fn a_name_without_pin_is_pinned_at_first_use() {
    let made = image(&["x"]);
    let table = [(None, 1), (Some(made.digest()), 1), (Some(Digest::of(b"somewhere")), 2)];
    for (said, notes_wanted) in table {
        let mut bench = Bench::new().await;
        made.push(&bench.registry, Some("c"));
        bench.lock(Some("python3.12"), said.map(|said| (said, PinStatus::Unverified)));
        // What the lock helper made is the project's file here, and must stay as it is.
        let project = bench.options.locks.user.replace(bench.directory.path().join("new/user.lock")).unwrap();
        let before = fs::read_to_string(&project).unwrap();
        bench.options.locks.project = Some(project.clone());

        bench.obtain(&"python3.12".parse().unwrap()).await.unwrap();
        let notes = bench.notes();
        assert_eq!(notes.len(), notes_wanted, "{notes:?}");
        assert!(notes.last().unwrap().contains("trust on first use"), "{notes:?}");
        assert!(notes.iter().all(|note| note.contains(&made.digest().to_string())), "{notes:?}");
        assert!(notes_wanted == 1 || notes[0].contains(&said.unwrap().to_string()), "{notes:?}");
        assert_eq!(fs::read_to_string(&project).unwrap(), before);

        bench.options.frozen = true;
        image(&["y"]).push(&bench.registry, Some("c"));
        assert_eq!(bench.lookup(&"python3.12".parse().unwrap()).unwrap(), Some(made.digest()), "pinned from now on");
        assert_eq!(bench.lookup(&bench.reference(":c")).unwrap(), Some(made.digest()), "by its reference too");
        assert!(bench.notes().is_empty());
    }
}

#[tokio::test]
async fn frozen_refuses_what_is_not_pinned() {
    let mut bench = Bench::new().await;
    let made = image(&["x"]);
    made.push(&bench.registry, Some("c"));
    bench.lock(Some("python3.12"), Some((made.digest(), PinStatus::Unverified)));
    bench.options.frozen = true;
    let layout = format!("oci:{}", bench.directory.path().display());
    for reference in [bench.reference(":c"), bench.reference(":d"), "python3.12".parse().unwrap(), layout.parse().unwrap()] {
        assert!(matches!(bench.lookup(&reference), Err(PullError::Frozen { .. })), "{reference}");
        assert!(matches!(bench.obtain(&reference).await, Err(PullError::Frozen { .. })), "{reference}");
    }
    assert_eq!(bench.requests(), 0);
    bench.obtain(&bench.reference(&format!("@{}", made.digest()))).await.unwrap();
}

#[tokio::test]
async fn names_that_mean_nothing() {
    let mut bench = Bench::new().await;
    let lookup = |text: &str| bench.lookup(&text.parse().unwrap());
    assert!(matches!(lookup("host"), Err(PullError::Host)));
    assert!(matches!(lookup("python3.99"), Err(PullError::UnknownRuntime(name)) if name == "python3.99"));
    // A name of the user's own is no runtime by its shape, but by the lock file.
    bench.lock(Some("mine"), None);
    let made = image(&["x"]);
    made.push(&bench.registry, Some("c"));
    assert_eq!(bench.obtain(&"mine".parse().unwrap()).await.unwrap().manifest_digest(), &made.digest());
}
