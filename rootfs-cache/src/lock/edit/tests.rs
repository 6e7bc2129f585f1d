use serde_json::json;

use super::*;
use crate::source::fake_registry::{Answer, FakeRegistry};

/// Puts an image into repository `a/b`, whose content is `content`.
fn put_image(registry: &FakeRegistry, content: &str, tag: Option<&str>) -> Digest {
    let layer = registry.put_blob(content.as_bytes());
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer]}}).to_string();
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": registry.put_blob(config.as_bytes())});
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": content.len()});
    registry.put_manifest(&json!({"schemaVersion": 2, "config": config, "layers": [layer]}), tag)
}

struct Bench {
    registry: FakeRegistry,
    directory: tempfile::TempDir,
    locks: LockFiles,
    access: RegistryAccess,
    platform: Platform,
}

impl Bench {
    async fn new() -> Self {
        let (registry, directory) = (FakeRegistry::honest().await, tempfile::tempdir().unwrap());
        Self {
            registry,
            directory,
            locks: LockFiles::default(),
            access: RegistryAccess::default(),
            platform: "linux/amd64".parse().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("x.lock")
    }

    fn reference(&self, tag: &str) -> ImageReference {
        format!("{}/a/b:{tag}", self.registry.host()).parse().unwrap()
    }

    /// Runs an operation of the editor.
    async fn edit<T>(&self, operation: impl AsyncFnOnce(LockEditor<'_>) -> T) -> T {
        let file = self.file();
        operation(LockEditor { file: &file, locks: &self.locks, access: &self.access, notes: &|note| panic!("{note}") }).await
    }

    async fn add(&self, image: &ImageReference) -> Result<Checked, EditError> {
        self.edit(async |editor| editor.add(image, &self.platform).await).await
    }

    /// Writes an entry with an unverified pin.
    fn suppose(&self, tag: &str, manifest: Digest) {
        let ImageReference::Registry(reference) = self.reference(tag) else { panic!() };
        let (status, source) = (PinStatus::Unverified, "public text".to_owned());
        let pin = Pin {
            manifest,
            status,
            source,
            trust: None,
            resolved_at: None,
            manifest_size: None,
            index: None,
            config: None,
            layers: Vec::new(),
        };
        let image =
            LockedImage { reference, platform: self.platform.clone(), runtime: None, dated_tag: None, pin: Some(pin), notes: Vec::new() };
        change(&self.file(), |file| file.put(image)).unwrap();
    }

    fn entry(&self, tag: &str) -> Option<LockedImage> {
        let ImageReference::Registry(reference) = self.reference(tag) else { panic!() };
        LockFile::read(&self.file()).unwrap()?.find(&LockName::Reference(&reference), &self.platform).cloned()
    }
}

#[tokio::test]
async fn add_pins_what_the_tag_means() {
    let bench = Bench::new().await;
    let first = put_image(&bench.registry, "x", Some("c"));
    let added = bench.add(&bench.reference("c")).await.unwrap();
    assert!(matches!(added, Checked { locked: None, verdict: Verdict::New { found }, .. } if found == first), "{added:?}");
    let pin = bench.entry("c").unwrap().pin.unwrap();
    assert_eq!((pin.manifest, pin.status, pin.source.as_str(), pin.layers.len()), (first, PinStatus::Verified, "registry", 1));
    assert!(pin.resolved_at.unwrap().ends_with('Z'));

    let second = put_image(&bench.registry, "y", Some("c"));
    let added = bench.add(&bench.reference("c")).await.unwrap();
    assert!(
        matches!(added, Checked { locked: Some(locked), verdict: Verdict::Moved { found }, .. } if (locked, found) == (first, second)),
        "{added:?}"
    );
}

#[tokio::test]
async fn add_takes_runtimes_from_other_lock_files() {
    let mut bench = Bench::new().await;
    put_image(&bench.registry, "x", Some("c"));
    let ImageReference::Registry(reference) = bench.reference("c") else { panic!() };
    let project = bench.directory.path().join("project.lock");
    let runtime = Some("python3.12".parse().unwrap());
    let image = LockedImage { reference, platform: bench.platform.clone(), runtime, dated_tag: None, pin: None, notes: Vec::new() };
    change(&project, |file| file.put(image)).unwrap();
    bench.locks.project = Some(project);
    bench.locks.chosen = Some(bench.file());
    bench.add(&"python3.12".parse().unwrap()).await.unwrap();
    assert_eq!(bench.entry("c").unwrap().runtime.unwrap().as_str(), "python3.12");
}

#[tokio::test]
async fn what_cannot_be_added() {
    let bench = Bench::new().await;
    let digest = format!("{}/a/b@{}", bench.registry.host(), Digest::of(b"x")).parse().unwrap();
    assert!(matches!(bench.add(&digest).await, Err(EditError::NotLockable(_))));
    assert!(matches!(bench.add(&"oci:x".parse().unwrap()).await, Err(EditError::NotLockable(_))));
    assert!(matches!(bench.add(&"python3.99".parse().unwrap()).await, Err(EditError::NoEntry(_))));
    assert!(matches!(bench.add(&bench.reference("c")).await, Err(EditError::Source { source: SourceError::NotFound { .. }, .. })));
    assert!(!bench.file().exists());
}

#[tokio::test]
async fn a_lock_file_that_is_not_there_is_told_and_how_to_begin_one() {
    let bench = Bench::new().await;
    let error = bench.edit(async |editor| editor.verify(&[]).await).await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap().to_string();
    assert!(cause.starts_with("No such file or directory"), "{cause}");
    assert!(error.hint().unwrap().contains("undocked lock add"));
}

#[tokio::test]
async fn update_and_diff() {
    let bench = Bench::new().await;
    let (old, new) = (Digest::of(b"old"), put_image(&bench.registry, "x", Some("moved")));
    put_image(&bench.registry, "y", Some("same"));
    bench.suppose("gone", old);
    bench.suppose("moved", old);
    bench.add(&bench.reference("same")).await.unwrap();

    let before = fs::read(bench.file()).unwrap();
    let verdicts =
        |all: Vec<Checked>| -> Vec<String> { all.iter().map(|one| format!("{:?}", one.verdict).chars().take(5).collect()).collect() };
    let diff = bench.edit(async |editor| editor.diff(&[]).await).await.unwrap();
    assert_eq!(verdicts(diff), ["Faile", "Moved", "Same"]);
    assert_eq!(fs::read(bench.file()).unwrap(), before, "diff changes nothing");

    let update = bench.edit(async |editor| editor.update(&[]).await).await.unwrap();
    assert_eq!(verdicts(update), ["Faile", "Moved", "Same"]);
    assert_eq!(bench.entry("moved").unwrap().pin.unwrap().manifest, new);
    assert_eq!(bench.entry("gone").unwrap().pin.unwrap().manifest, old, "no answer changes nothing");

    let only = [bench.reference("same")];
    assert_eq!(bench.edit(async |editor| editor.diff(&only).await).await.unwrap().len(), 1);
    let other = [bench.reference("other")];
    assert!(matches!(bench.edit(async |editor| editor.diff(&other).await).await, Err(EditError::NoEntry(_))));
}

#[tokio::test]
async fn verify_promotes_or_rejects() {
    let registry =
        FakeRegistry::start(|asked, _| asked.path.contains(&Digest::of(b"down").hex()).then(|| Answer::error(429, "TOOMANYREQUESTS")))
            .await;
    let bench = Bench { registry, ..Bench::new().await };
    let there = put_image(&bench.registry, "x", None);
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": there, "size": 1});
    let index = bench.registry.put_manifest(&json!({"schemaVersion": 2, "manifests": [entry]}), None);
    bench.suppose("a-good", there);
    bench.suppose("b-gone", Digest::of(b"gone"));
    bench.suppose("c-index", index);
    bench.suppose("d-down", Digest::of(b"down"));

    let all = bench.edit(async |editor| editor.verify(&[]).await).await.unwrap();
    assert!(
        matches!(
            all.iter().map(|one| &one.verdict).collect::<Vec<_>>()[..],
            [Verdict::Verified, Verdict::Rejected(_), Verdict::Rejected(_), Verdict::Failed(_)]
        ),
        "{all:?}"
    );
    let pin = bench.entry("a-good").unwrap().pin.unwrap();
    assert_eq!((pin.status, pin.source.as_str()), (PinStatus::Verified, "registry, after public text"));
    for (tag, digest) in [("b-gone", Digest::of(b"gone")), ("c-index", index)] {
        let entry = bench.entry(tag).unwrap();
        assert!(entry.pin.is_none() && entry.notes[0].digest == digest, "{entry:?}");
    }
    assert_eq!(bench.entry("d-down").unwrap().pin.unwrap().status, PinStatus::Unverified);
}
