use std::path::PathBuf;
use std::time::Duration;

use rootfs_cache::pull::KeepBlobs;
use rootfs_cache::store::{CacheLimits, PruneScope};

use super::*;
use crate::config::{Color, Listing, LockedImages, Loudness, ResultFormat, Stdin};
use crate::sandbox::Access;

fn own() -> OwnEnvironment {
    [("HOME", "/h"), ("PATH", "/usr/bin:/bin"), ("SET", "ours"), ("AWS_LAMBDA_FUNCTION_NAME", "fn"), ("AWS_SECRET_ACCESS_KEY", "secret")]
        .into()
}

fn read_line(line: &[&str]) -> Result<Command, Ended> {
    read(std::iter::once("undocked").chain(line.iter().copied()).map(OsString::from), &own())
}

#[track_caller]
fn run(line: &[&str]) -> RunConfig {
    match read_line(&[&["run"], line].concat()) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{line:?}: {other:?}"),
    }
}

#[track_caller]
fn refused(line: &[&str]) -> (u8, String, Option<String>) {
    match read_line(line) {
        Err(Ended::Wrong(failure)) => (failure.code().number(), failure.to_string(), failure.hint().map(str::to_owned)),
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn options_end_at_the_image() {
    for (line, image, arguments) in [
        (&["host"][..], "host", &[][..]),
        (
            &["--rm", "lambci/lambda:nodejs12.x", "index.handler", "{\"a\":1}"],
            "docker.io/lambci/lambda:nodejs12.x",
            &["index.handler", "{\"a\":1}"],
        ),
        (&["--rm", "host", "--json", "-v", "x", "--", "-e"], "host", &["--json", "-v", "x", "--", "-e"]),
        (&["host", "--help"], "host", &["--help"]),
        (&["host", "run", ""], "host", &["run", ""]),
        (&["-it", "host", "help"], "host", &["help"]),
    ] {
        let config = run(line);
        assert_eq!(config.image, image.parse().unwrap(), "{line:?}");
        assert_eq!(config.arguments, arguments, "{line:?}");
        assert_eq!(config.result, ResultFormat::Line, "{line:?}");
    }
    // What clap or a shell could take for commands is an image here.
    assert_eq!(run(&["help"]).image, "help".parse().unwrap());
    assert_eq!(run(&["run"]).image, "run".parse().unwrap());
}

#[test]
fn lines_as_docker_users_type_them() {
    let config = run(&[
        "--rm",
        "-v",
        "/tmp:/var/task:ro,delegated",
        "-v",
        "/usr:/opt:ro,delegated",
        "-e",
        "K=V",
        "-e=X=4=4",
        "-eSET",
        "--env",
        "UNSET",
        "--env=E=",
        "host",
        "h",
        "e",
    ]);
    let targets: Vec<_> = config.volumes.iter().map(|volume| (volume.target.to_str().unwrap(), volume.access)).collect();
    assert_eq!(targets, [("/var/task", Access::ReadOnly), ("/opt", Access::ReadOnly)]);
    let variables: Vec<_> = config.variables.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(variables, [("K", "V"), ("X", "4=4"), ("SET", "ours"), ("E", "")]);
    assert_eq!(config.own_settings, [("AWS_LAMBDA_FUNCTION_NAME".to_owned(), "fn".into())]);

    let config = run(&[
        "-it",
        "-m",
        "1.5G",
        "-m512m",
        "--timeout=3",
        "-w/x",
        "--entrypoint",
        "",
        "--rm=false",
        "--network=host",
        "--json",
        "-q",
        "host",
    ]);
    assert_eq!((config.stdin, config.result, config.talk.loudness), (Stdin::Inherit, ResultFormat::Json, Loudness::Quiet));
    assert_eq!(config.memory.unwrap().mb(), 512);
    assert_eq!(config.timeout.unwrap().limit().as_secs(), 3);
    assert_eq!((config.working_dir, config.entrypoint), (Some("/x".into()), Some("".into())));
    assert_eq!(run(&["-i=false", "-t", "host"]).stdin, Stdin::Null);
}

#[test]
fn the_filter_is_the_shipped_one_or_the_users_choice() {
    assert!(run(&["host"]).filter.is_some());
    assert!(run(&["--cap-drop", "ALL", "--privileged=false", "--security-opt=no-new-privileges", "host"]).filter.is_some());
    assert!(run(&["--seccomp", "off", "host"]).filter.is_none());
    assert!(run(&["--security-opt", "seccomp=unconfined", "host"]).filter.is_none());
}

#[test]
fn how_images_are_found() {
    let config = run(&[
        "--pull",
        "never",
        "--platform",
        "linux/arm64",
        "--insecure-registry",
        "a:1",
        "--insecure-registry=b",
        "--mirror=m:5000",
        "--mirror",
        "public.ecr.aws=http://m:5001/ecr",
        "--ca",
        "/ca.pem",
        "--lock",
        "l",
        "--frozen",
        "host",
    ]);
    let options = config.images.options;
    assert_eq!((options.policy, options.frozen), (PullPolicy::Never, true));
    assert_eq!(options.platform.to_string(), "linux/arm64");
    assert_eq!(options.access.insecure, ["a:1", "b"]);
    assert_eq!((options.locks.chosen, options.locks.user), (Some("l".into()), Some("/h/.config/undocked/vendor-images.lock".into())));
    assert_eq!(
        (config.images.cache, options.access.logins.last()),
        (Some("/h/.cache/undocked".into()), Some(&"/h/.docker/config.json".into()))
    );
    let mirrors: Vec<_> = options.access.mirrors.iter().map(|mirror| (mirror.of.as_str(), mirror.location.as_str())).collect();
    assert_eq!(mirrors, [("docker.io", "m:5000"), ("public.ecr.aws", "m:5001/ecr")]);
    assert_eq!(options.access.authorities, [PathBuf::from("/ca.pem")]);
    let options = run(&["host"]).images.options;
    assert_eq!((options.policy, options.frozen, options.locks.chosen), (PullPolicy::Missing, false, None));
    assert_eq!(options.blobs, KeepBlobs::No);
    assert_eq!(run(&["--keep-blobs", "host"]).images.options.blobs, KeepBlobs::Yes);
    let keeping = read_line(&["pull", "--keep-blobs", "a"]);
    assert!(matches!(keeping, Ok(Command::Pull { source, .. }) if source.options.blobs == KeepBlobs::Yes));
}

#[test]
fn colour() {
    assert_eq!(run(&["host"]).talk.color, Color::Terminal);
    assert_eq!(run(&["--color", "always", "host"]).talk.color, Color::Always);
    let no_color = OwnEnvironment::from([("NO_COLOR", "1")]);
    let with = |line: &[&str]| match read(line.iter().map(OsString::from), &no_color) {
        Ok(Command::Run(config)) => config.talk.color,
        other => panic!("{other:?}"),
    };
    assert_eq!(with(&["undocked", "run", "host"]), Color::Never);
    assert_eq!(with(&["undocked", "run", "--color=always", "host"]), Color::Always);
}

#[test]
fn other_commands() {
    assert!(
        matches!(read_line(&["pull", "-q", "a", "b"]), Ok(Command::Pull { images, talk, .. }) if images == ["a", "b"] && talk.loudness == Loudness::Quiet)
    );
    assert!(matches!(read_line(&["images", "--json"]), Ok(Command::Images(ImagesConfig { listing: Listing::Json, .. }))));
    assert!(matches!(read_line(&["images"]), Ok(Command::Images(ImagesConfig { listing: Listing::Table, .. }))));
    assert!(matches!(read_line(&["rm", "a"]), Ok(Command::Remove(config)) if config.images == ["a"]));
    let prune = |line: &[&str]| match read_line(line) {
        Ok(Command::Prune(config)) => (config.scope, config.locked),
        other => panic!("{other:?}"),
    };
    assert_eq!(prune(&["prune", "-af"]), (PruneScope::Everything, LockedImages::AsOthers));
    assert_eq!(prune(&["prune"]), (PruneScope::Unreferenced, LockedImages::AsOthers));
    let limits = CacheLimits { unused_for: Some(Duration::from_secs(30 * 86_400)), bytes: Some(10 << 30), ..CacheLimits::default() };
    let line = ["prune", "--max-size", "10g", "--older-than", "30d", "--keep-locked"];
    assert_eq!(prune(&line), (PruneScope::Beyond(limits), LockedImages::Keep));
    assert!(matches!(read_line(&["images", "--verify", "a", "b"]), Ok(Command::Verify(config)) if config.images == ["a", "b"]));
    assert!(matches!(read_line(&["images", "a"]), Ok(Command::Images(config)) if config.repository.as_deref() == Some("a")));
    assert!(matches!(read_line(&["lock", "verify"]), Ok(Command::Lock { action: LockAction::Verify, images, .. }) if images.is_empty()));
    assert!(matches!(read_line(&["doctor", "--json"]), Ok(Command::Doctor { subject: DoctorSubject::Json, .. })));
    assert!(matches!(read_line(&["--version"]), Err(Ended::Text(text)) if text.starts_with("undocked ")));
    for line in [&["--help"][..], &["run", "--help"], &["run", "-h"], &["lock", "--help"]] {
        assert!(matches!(read_line(line), Err(Ended::Text(_))), "{line:?}");
    }
}

#[test]
fn refusals() {
    for (line, code, message, hint) in [
        (&["run", "--enviroment", "A=1", "host"][..], 2, "unknown option `--enviroment`", "did you mean"),
        (&["run", "--foo", "host"], 2, "unknown option `--foo`", "`undocked run --help`"),
        (&["run", "-x", "host"], 2, "unknown option `-x`", "`undocked run --help`"),
        (&["run"], 2, "IMAGE is missing", "write it after the options"),
        (&["run", "--rm"], 2, "IMAGE is missing", "write it after the options"),
        (&["run", "--color", "pink", "host"], 2, "`pink` is no value for `--color`", "auto, always, never"),
        (&["run", "-v"], 2, "`--volume` needs a value", ""),
        (&["run", "-m", "lots", "host"], 2, "`lots` is not a size", ""),
        (&["run", "--timeout", "-1", "host"], 2, "`-1` is not a timeout", ""),
        (&["run", "--platform", "windows/amd64", "host"], 2, "`windows/amd64`", ""),
        (&["run", "-v", "", "host"], 2, "is not of the form", "/var/task"),
        (&["run", "-v", "data:/x", "host"], 125, "named volumes do not exist here", "./data"),
        (&["run", "-e", "=x", "host"], 2, "`=x` names no variable", ""),
        (&["run", "--network", "weird", "host"], 2, "there is no network `weird`", "--network private"),
        (
            &["run", "--cap-add", "SYS_ADMIN", "host"],
            125,
            "`--cap-add SYS_ADMIN` is not supported: a function has no capabilities",
            "leave it out",
        ),
        (&["run", "--privileged", "host"], 125, "`--privileged` is not supported", "leave it out"),
        (&["run", "--seccomp", "/none/such", "host"], 125, "cannot read the seccomp policy `/none/such`", "`off`"),
        (&["run", "--security-opt", "systempaths=unconfined", "host"], 125, "`--security-opt systempaths=unconfined`", "seccomp="),
        (&["run", "-v", "/none/such:/x", "host"], 125, "the host path `/none/such` of a volume does not exist", "docker would make"),
        (&["run", "-v", "/tmp:/opt", "--layer", "/usr", "host"], 2, "`--layer` and a volume both want `/opt`", "--layer"),
        (&["run", "UPPER CASE"], 2, "image reference", ""),
        (&["images", "a", "b"], 2, "`a` is one repository too many", "--verify"),
        (&["images", "--verify", "--json"], 2, "cannot be used with", "--help"),
        (&["prune", "--older-than", "30"], 2, "`30` is no age", "30d"),
        (&["prune", "--max-size", "much"], 2, "`--max-size` cannot be used", ""),
        (&["prune", "-a", "--max-size", "1g"], 2, "cannot be used with", ""),
        (&["imagse"], 2, "unknown command `imagse`", "did you mean `images`?"),
        (&[], 2, "no command given", "undocked --help"),
        (&["pull"], 2, "`IMAGE` is missing", ""),
        (&["doctor", "x"], 2, "unexpected argument `x`", ""),
    ] {
        let (found_code, found, found_hint) = refused(line);
        assert_eq!(found_code, code, "{line:?}: {found}");
        assert!(found.contains(message), "{line:?}: {found}");
        assert!(found_hint.unwrap_or_default().contains(hint), "{line:?}: hint");
        assert!(!found.contains('\n'), "{line:?}: {found}");
    }
}
