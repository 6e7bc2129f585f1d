use std::fs;

use super::*;
use crate::reference::Architecture;

fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn runtime(name: &str) -> RuntimeId {
    name.parse().unwrap()
}

fn entry(reference: &str, pinned: Option<(u8, PinStatus)>) -> LockedImage {
    let pin = pinned.map(|(n, status)| Pin {
        manifest: digest(n),
        status,
        source: "registry".to_owned(),
        trust: None,
        resolved_at: None,
        manifest_size: None,
        index: None,
        config: None,
        layers: Vec::new(),
    });
    LockedImage { reference: reference.parse().unwrap(), platform: platform(), runtime: None, dated_tag: None, pin, notes: Vec::new() }
}

fn parse(text: &str) -> Result<LockFile, LockError> {
    LockFile::from_text(Path::new("x.lock"), text)
}

#[test]
fn the_built_in_file_is_what_we_would_write() {
    assert_eq!(LockFile::built_in().to_text(), BUILT_IN);
}

#[test]
fn the_built_in_file_names_both_families() {
    let lambci = "nodejs4.3 nodejs6.10 nodejs8.10 nodejs10.x nodejs12.x python2.7 python3.6 python3.7 python3.8 ruby2.5 ruby2.7 java8 java8.al2 java11 go1.x \
                  dotnetcore2.0 dotnetcore2.1 dotnetcore3.1 provided provided.al2";
    let aws = "nodejs16.x nodejs18.x nodejs20.x nodejs22.x nodejs24.x python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 ruby3.2 ruby3.3 ruby3.4 \
               java17 java21 java25 dotnet6 dotnet8 dotnet10 provided.al2023";
    let built_in = LockFile::built_in();
    let on = |architecture| Platform { architecture, variant: None };
    let registry_of = |name: &str, architecture| {
        let find = |file: LockFile| file.find(&LockName::Runtime(&runtime(name)), &on(architecture)).cloned();
        assert_eq!(find(LockFile::built_in_with(name)), find(built_in.clone()), "{name}");
        find(built_in.clone()).map(|image| image.reference.registry().to_owned())
    };
    for name in lambci.split_whitespace() {
        assert_eq!(registry_of(name, Architecture::Amd64).as_deref(), Some("docker.io"), "{name}");
    }
    for name in aws.split_whitespace() {
        for architecture in [Architecture::Amd64, Architecture::Arm64] {
            assert_eq!(registry_of(name, architecture).as_deref(), Some("public.ecr.aws"), "{name}");
        }
    }
    let verified = |image: &&LockedImage| image.pin.as_ref().is_some_and(|pin| pin.status == PinStatus::Verified);
    assert_eq!(built_in.images().iter().find(verified), None, "nothing built in was confirmed by a registry");
}

#[test]
fn text_round_trips() {
    let mut full = entry("localhost:5000/a:b", Some((1, PinStatus::Verified)));
    full.runtime = Some(runtime("python3.12"));
    full.dated_tag = Some("b.2026".into());
    let pin = full.pin.as_mut().unwrap();
    pin.source = "odd \"quotes\" \\ and\nlines \u{7f}\u{1f980}".into();
    (pin.resolved_at, pin.manifest_size, pin.index, pin.config) =
        (Some("2026-11-26T14:00:00Z".into()), Some(7), Some(digest(2)), Some(digest(3)));
    pin.layers = vec![LockedLayer { digest: digest(4), size: 9, diff_id: digest(5), media_type: "a\"b".into() }; 2];
    full.notes =
        vec![Note { digest: digest(6), kind: NoteKind::Index, when: Some("2026".into()), tag: Some("c".into()), source: "s".into() }];
    let mut file = LockFile::default();
    for image in [entry("z/z", None), full, entry("a/a", Some((8, PinStatus::Unverified)))] {
        file.put(image);
    }
    let text = file.to_text();
    let read = parse(&text).unwrap();
    assert_eq!(read, file);
    assert_eq!(read.to_text(), text);
}

#[test]
fn order_in_a_file_does_not_matter() {
    let unsorted = "[[image]]\nreference = \"b/b\"\nplatform = 'linux/amd64'\n[[image]]\nreference = 'a/a:latest'\nplatform = 'amd64'\n";
    let file = parse(&format!("version = 1\n{unsorted}")).unwrap();
    let references: Vec<String> = file.images().iter().map(|image| image.reference.to_string()).collect();
    assert_eq!(references, ["docker.io/a/a:latest", "docker.io/b/b:latest"]);
}

#[test]
fn faults() {
    let image = |rest: &str| format!("version = 1\n[[image]]\nreference = \"a/b:c\"\nplatform = \"linux/amd64\"\n{rest}");
    let pinned = format!("manifest_digest = \"{}\"\nstatus = \"verified\"\nsource = \"registry\"\n", digest(1));
    let table = [
        (String::new(), "malformed"),
        ("version = 2\n[[image]]\nnew = 1".into(), "has version 2"),
        ("version = 1\nx = 1".into(), "malformed"),
        (image("colour = 1"), "malformed"),
        (image("manifest_digest = \"sha256:../x\""), "malformed"),
        (image(&pinned.replace("verified", "trusted")), "malformed"),
        (image(&format!("manifest_digest = \"{}\"", digest(1))), "must stand there together"),
        (image(&format!("config_digest = \"{}\"", digest(1))), "must stand there together"),
        (image("").replace("a/b:c", "A b"), "is not a part"),
        (image("").replace("a/b:c", &format!("a@{}", digest(1))), "belongs into"),
        (image("").replace("amd64", "mips"), "is not a platform"),
        (image("runtime = \"../x\""), "is not a runtime name"),
        (image(&image("").replace("version = 1", "")), "stands there twice"),
        (
            image(&format!("runtime = \"x\"\n{}runtime = \"x\"", image("").replace("version = 1", "").replace("b:c", "d"))),
            "has runtime `x` too",
        ),
    ];
    for (text, wanted) in table {
        let fault = parse(&text).expect_err(&text).to_string();
        assert!(fault.contains(wanted), "{text}: {fault}");
    }
}

/// Lock files in a directory: `--lock`, the user's, the project's.
fn files(directory: &Path, content: [Vec<LockedImage>; 3]) -> LockFiles {
    let mut paths = content.into_iter().zip(["chosen", "user", "project"]).map(|(images, name)| {
        let path = directory.join(name);
        if images.is_empty() {
            return None;
        }
        edit::change(&path, |file| images.into_iter().for_each(|image| file.put(image))).unwrap();
        Some(path)
    });
    LockFiles { chosen: paths.next().unwrap(), user: paths.next().unwrap(), project: paths.next().unwrap() }
}

#[test]
fn precedence() {
    use PinStatus::{Unverified, Verified};
    let of = |reference: &str, pin| {
        let mut image = entry(reference, pin);
        image.runtime = Some(runtime("python3.12"));
        image
    };
    let aws = "public.ecr.aws/lambda/python:3.12";
    let table = [
        // The first verified pin for the reference that the first file names; a weaker one before it does not hide it.
        ([vec![], vec![], vec![]], aws, None),
        ([vec![], vec![of(aws, Some((1, Verified)))], vec![of(aws, Some((2, Verified)))]], aws, Some(1)),
        ([vec![of(aws, Some((3, Unverified)))], vec![], vec![of(aws, Some((2, Verified)))]], aws, Some(2)),
        ([vec![of(aws, None)], vec![entry(aws, Some((1, Verified)))], vec![]], aws, Some(1)),
        // A pin for another reference is no pin.
        ([vec![of("localhost/a:b", None)], vec![of(aws, Some((1, Verified)))], vec![]], "localhost/a:b", None),
    ];
    for (content, reference, pinned) in table {
        let directory = tempfile::tempdir().unwrap();
        let locks = files(directory.path(), content.clone());
        let found = locks.find(&LockName::Runtime(&runtime("python3.12")), &platform()).unwrap().unwrap();
        assert_eq!(found.image.reference.to_string(), reference, "{content:?}");
        assert_eq!(found.verified.map(|pin| pin.manifest), pinned.map(digest), "{content:?}");
    }
}

#[test]
fn a_chosen_file_must_be_there_and_others_need_not() {
    let absent = || Some(PathBuf::from("/nonexistent/x.lock"));
    let find = |locks: LockFiles| locks.find(&LockName::Runtime(&runtime("nodejs12.x")), &platform());
    assert!(find(LockFiles { chosen: None, user: absent(), project: absent() }).unwrap().is_some());
    assert!(matches!(find(LockFiles { chosen: absent(), ..LockFiles::default() }), Err(LockError::Read { .. })));
}

#[test]
fn names_are_found_however_they_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("project");
    let locks = LockFiles { project: Some(path.clone()), ..LockFiles::default() };
    for written in ["lambci/lambda:odd", "docker.io/lambci/lambda:odd", "index.docker.io/lambci/lambda:odd", r"lambci/lambda:\u006fdd"] {
        fs::write(&path, format!("version = 1\n[[image]]\nreference = \"{written}\"\nplatform = \"linux/amd64\"\n")).unwrap();
        let reference = "lambci/lambda:odd".parse().unwrap();
        assert!(locks.find(&LockName::Reference(&reference), &platform()).unwrap().is_some(), "{written}");
    }
}

#[test]
fn a_runtime_name_moves_to_the_entry_put_last() {
    let mut file = LockFile::default();
    for reference in ["a/a", "b/b"] {
        let mut image = entry(reference, None);
        image.runtime = Some(runtime("python3.12"));
        file.put(image);
    }
    assert_eq!(parse(&file.to_text()).unwrap(), file);
    assert_eq!(file.find(&LockName::Runtime(&runtime("python3.12")), &platform()).unwrap().reference.repository(), "b/b");
}

#[test]
fn changes_are_atomic_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/x.lock");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || edit::change(path, |file| file.put(entry(&format!("a/n{n}"), None))).unwrap());
        }
    });
    assert_eq!(LockFile::read(&path).unwrap().unwrap().images().len(), 8);
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["x.lock"], "nothing else is left");

    let link = directory.path().join("link.lock");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    edit::change(&link, |file| file.put(entry("a/last", None))).unwrap();
    assert!(link.is_symlink());
    assert_eq!(LockFile::read(&path).unwrap().unwrap().images().len(), 9);
}
