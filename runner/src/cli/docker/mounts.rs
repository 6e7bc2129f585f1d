//! `-v`, `--mount` and `--tmpfs`, as docker reads them.

use std::path::Path;

use super::flags::Given;
use crate::config::docker::{MountSpec, VolumeSource};
use crate::exit_code::Failure;

/// What is shown inside.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) mounts: Vec<MountSpec>,
    /// Whether `/tmp` is asked for in memory: of a function it is in any case.
    pub(super) tmp_in_memory: bool,
    /// The size of `/tmp`.
    pub(super) tmp_size: Option<String>,
}

pub(super) fn read(given: &Given, current_dir: &Path) -> Result<Shown, Failure> {
    let mut shown = Shown::default();
    for text in given.all("volume") {
        shown.mounts.push(volume(text, current_dir)?);
    }
    for text in given.all("mount") {
        mount(text, current_dir, &mut shown)?;
    }
    for text in given.all("tmpfs") {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut size = None;
        for option in options.split(',') {
            if let Some(value) = option.strip_prefix("size=") {
                size = Some(value.to_owned());
            }
        }
        tmpfs(target, size, &mut shown)?;
    }
    Ok(shown)
}

/// One at `/tmp` alone.
fn tmpfs(target: &str, size: Option<String>, shown: &mut Shown) -> Result<(), Failure> {
    if target.trim_end_matches('/') == "/tmp" {
        (shown.tmp_in_memory, shown.tmp_size) = (true, size);
        return Ok(());
    }
    let error = format!("a file system in memory at `{target}` is not supported: `/tmp` is the one there is");
    let hint = "`-v FOLDER:TARGET` shows a folder, `-v TARGET` one of the run's own";
    Err(Failure::could_not_run(error).with_hint(Some(hint.to_owned())))
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn volume(text: &str, current_dir: &Path) -> Result<MountSpec, Failure> {
    let invalid = || Failure::could_not_run(format!("invalid volume specification: '{text}'")).in_front("Error response from daemon");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid()),
    };
    if target.is_empty() || (source.is_empty() && parts.len() > 1) {
        return Err(invalid());
    }
    let mut read_only = false;
    for option in options.split(',') {
        match option {
            "ro" | "readonly" => read_only = true,
            "rw" => read_only = false,
            // For other systems' sake, and what always holds here.
            "" | "z" | "Z" | "delegated" | "cached" | "consistent" | "rprivate" | "private" => {}
            "nocopy" => {}
            _ => return Err(Failure::could_not_run(format!("invalid mode: {options}")).in_front("Error response from daemon")),
        }
    }
    Ok(MountSpec { source: source_of(source, current_dir)?, target: target.to_owned(), read_only })
}

/// A path, or a volume's name.
fn source_of(source: &str, current_dir: &Path) -> Result<VolumeSource, Failure> {
    if source.is_empty() {
        return Ok(VolumeSource::Anonymous(String::new()));
    }
    if source.starts_with(['/', '.', '~']) {
        return Ok(VolumeSource::Bind(current_dir.join(source)));
    }
    let is_name =
        source.starts_with(|c: char| c.is_ascii_alphanumeric()) && source.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if is_name {
        return Ok(VolumeSource::Named(source.to_owned()));
    }
    let error = format!(
        "create {source}: \"{source}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    );
    Err(Failure::could_not_run(error).in_front("Error response from daemon"))
}

/// `type=bind,source=…,target=…[,readonly]` and its kin.
fn mount(text: &str, current_dir: &Path, shown: &mut Shown) -> Result<(), Failure> {
    let wrong = |what: String| Failure::could_not_run(format!("invalid argument {text:?} for \"--mount\" flag: {what}"));
    let (mut kind, mut source, mut target, mut read_only, mut size) = ("volume", None, None, false, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        match (key.to_ascii_lowercase().as_str(), value) {
            ("type", Some(value)) => kind = value,
            ("source" | "src", Some(value)) => source = Some(value),
            ("target" | "dst" | "destination", Some(value)) => target = Some(value),
            ("readonly" | "ro", value) => read_only = value.is_none_or(|value| matches!(value, "true" | "1")),
            ("tmpfs-size", Some(value)) => size = Some(value.to_owned()),
            ("consistency" | "bind-propagation" | "tmpfs-mode" | "volume-nocopy" | "bind-recursive", _) => {}
            (key, None) => return Err(wrong(format!("invalid field '{key}' must be a key=value pair"))),
            (key, _) => return Err(wrong(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    let target = target.ok_or_else(|| wrong("target is required".to_owned()))?.to_owned();
    let source = match (kind, source) {
        ("tmpfs", _) => return tmpfs(&target, size, shown),
        ("bind", Some(source)) => {
            let path = current_dir.join(source);
            if !path.exists() {
                let error = format!("invalid mount config for type \"bind\": bind source path does not exist: {}", path.display());
                return Err(Failure::could_not_run(error).in_front("Error response from daemon"));
            }
            VolumeSource::Bind(path)
        }
        ("bind", None) => return Err(wrong("source is required".to_owned())),
        ("volume", source) => source_of(source.unwrap_or_default(), current_dir)?,
        (other, _) => return Err(wrong(format!("mount type unknown: \"{other}\""))),
    };
    shown.mounts.push(MountSpec { source, target, read_only });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &str, target: &str, read_only: bool) -> MountSpec {
        MountSpec { source: VolumeSource::Bind(path.into()), target: target.to_owned(), read_only }
    }

    #[test]
    fn volumes_as_docker_reads_them() {
        let named = |name: &str, target: &str| MountSpec {
            source: VolumeSource::Named(name.to_owned()),
            target: target.to_owned(),
            read_only: false,
        };
        for (text, expected) in [
            ("/a:/var/task:ro,delegated", bind("/a", "/var/task", true)),
            ("/a:/var/task:z,delegated", bind("/a", "/var/task", false)),
            ("./x:/y:cached", bind("/here/./x", "/y", false)),
            ("data:/y", named("data", "/y")),
            ("/y", MountSpec { source: VolumeSource::Anonymous(String::new()), target: "/y".to_owned(), read_only: false }),
        ] {
            assert_eq!(volume(text, Path::new("/here")).unwrap(), expected, "{text}");
        }
        for text in ["", ":/x", "/a:/b:nope", "a/b:/c", "/a:/b:ro:x"] {
            assert!(volume(text, Path::new("/here")).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts_as_docker_reads_them() {
        let read = |text: &str| {
            let mut shown = Shown::default();
            mount(text, Path::new("/here"), &mut shown).map(|()| shown)
        };
        assert_eq!(read("type=bind,source=/usr,target=/x,readonly").unwrap().mounts, [bind("/usr", "/x", true)]);
        assert_eq!(read("type=bind,src=/usr,dst=/x").unwrap().mounts, [bind("/usr", "/x", false)]);
        assert_eq!(read("type=volume,source=v,target=/x").unwrap().mounts[0].source, VolumeSource::Named("v".to_owned()));
        assert_eq!(read("type=tmpfs,target=/tmp,tmpfs-size=64m").unwrap().tmp_size.as_deref(), Some("64m"));
        for text in [
            "type=bind,target=/x",
            "type=bind,source=/none/such,target=/x",
            "type=nope,target=/x",
            "source=/x",
            "type=bind,what=1",
            "type=tmpfs,target=/x",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
