//! This machine's userland as it is: what would be shown at a place inside is used where it lies.
//!
//! Paths in the command and in variables that lead to a volume are rewritten to the volume's source; a program with such a path of its own is not helped.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Bare, BareError, ClosedPath, Rights, Rule};
use crate::sandbox::plan::DEVICES;
use crate::sandbox::run_folder::RunFolder;
use crate::sandbox::{Access, Command, Degradation, HostRoot, RootSource, SandboxRequest, Volume};

/// Read by name services and libraries; in a sandbox with a root of its own they are made for it.
const NAMES: [&str; 6] = ["/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/os-release"];

/// Places that every other sandbox has, if only as empty folders.
const PLACES: [&str; 2] = ["/var/task", "/opt"];

/// Where root's folders of runs are made, since a cache in its home folder is closed to others. The first is root's alone to write to; it may lie on a
/// read-only file system.
const ROOTS_SCRATCH: [&str; 2] = ["/var/lib/undocked-runs", "/tmp/undocked-runs"];

/// Rewrites a request, and says what it may use.
pub(super) fn adapt(mut request: SandboxRequest) -> Result<(SandboxRequest, Bare), BareError> {
    let host = match &request.root {
        RootSource::Host(host) => host.clone(),
        RootSource::Image { .. } | RootSource::Writable(_) => HostRoot::default(),
    };
    let (folder, files) = files(&host, &request)?;
    let mut volumes: Vec<Volume> = request.volumes.iter().cloned().chain(files).collect();
    // The deepest target decides.
    volumes.sort_by_key(|volume| std::cmp::Reverse(volume.target.components().count()));
    let rules = rules(&host, &volumes);
    let lacks = open_after_all(&volumes);
    let translation = Translation { volumes };
    (request.command, request.environment, request.working_dir) =
        translation.of(&request.command, &request.environment, &request.working_dir);
    Ok((request, Bare { folder, translation: Some(translation), rules, lacks }))
}

/// Where what would be shown at places inside lies.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Translation {
    /// The deepest target first.
    volumes: Vec<Volume>,
}

impl Translation {
    /// A program with all paths in it rewritten.
    pub(in crate::sandbox) fn of(
        &self,
        command: &Command,
        environment: &[CString],
        working_dir: &Path,
    ) -> (Command, Vec<CString>, PathBuf) {
        let volumes = &self.volumes;
        let command = match command {
            Command::FirstOf { candidates, arguments } => {
                Command::FirstOf { candidates: translated(candidates, volumes), arguments: translated(arguments, volumes) }
            }
            Command::Line(words) => Command::Line(translated(words, volumes)),
        };
        let rewritten = |variable: &CString| {
            let bytes = variable.as_bytes();
            let value = bytes.iter().position(|&byte| byte == b'=').map_or(0, |equals| equals + 1);
            let (name, value) = bytes.split_at(value);
            CString::new([name, &translate(value, volumes)].concat()).unwrap_or_else(|_| variable.clone())
        };
        let working_dir = PathBuf::from(OsString::from_vec(translate(working_dir.as_os_str().as_bytes(), volumes)));
        let is_missing_place = PLACES.iter().any(|place| working_dir == Path::new(place)) && !working_dir.exists();
        let working_dir = if is_missing_place { "/".into() } else { working_dir };
        (command, environment.iter().map(rewritten).collect(), working_dir)
    }
}

/// Whether others than root get to the program, the volumes and the working directory. What is not there is none of our business.
pub(super) fn is_open(request: &SandboxRequest) -> Result<(), ClosedPath> {
    let program = match &request.command {
        Command::Line(words) => words.first().map(Path::new).filter(|path| path.is_absolute()),
        Command::FirstOf { candidates, .. } => candidates.iter().map(Path::new).find(|path| path.exists()),
    };
    let folders = request.volumes.iter().map(|volume| volume.source.as_path()).chain([request.working_dir.as_path()]);
    program.into_iter().chain(folders).try_for_each(is_open_to_others)
}

/// Files must be readable, folders passable; links lead where they lead.
fn is_open_to_others(path: &Path) -> Result<(), ClosedPath> {
    let Ok(real) = path.canonicalize() else { return Ok(()) };
    let above: Vec<&Path> = real.ancestors().collect();
    for part in above.into_iter().rev() {
        let wanted = if part.is_dir() { 0o1 } else { 0o4 };
        if mode_of(part) & wanted == 0 {
            return Err(ClosedPath { path: path.to_owned(), by: part.to_owned() });
        }
    }
    Ok(())
}

/// Files that are made for the run, as volumes from a folder of its own. Those below `/etc` are this machine's.
fn files(host: &HostRoot, request: &SandboxRequest) -> Result<(Option<RunFolder>, Vec<Volume>), BareError> {
    let wanted: Vec<_> = host.files.iter().filter(|(path, contents, _)| !path.starts_with("/etc") && !contents.is_empty()).collect();
    if wanted.is_empty() {
        return Ok((None, Vec::new()));
    }
    // Root's program is nobody, who must get there.
    let folder = if is_root() {
        let [first, second] = ROOTS_SCRATCH.map(Path::new);
        RunFolder::create(first).or_else(|_| RunFolder::create(second))?
    } else {
        RunFolder::create(request.scratch.as_deref().ok_or(BareError::NoPlace)?)?
    };
    let mut volumes = Vec::new();
    for (target, contents, mode) in wanted {
        // The name is kept: an interpreter knows by it what the file is.
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let source = folder.write(&name, contents)?;
        let set = std::fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(*mode));
        set.map_err(|error| BareError::Copy { path: target.clone(), source: error })?;
        volumes.push(Volume { source, target: target.clone(), access: Access::ReadOnly });
    }
    folder.open_to_all()?;
    Ok((Some(folder), volumes))
}

/// Landlock cannot take from a folder what it gives to one above it, so that a volume in `/tmp` is as open as that.
fn open_after_all(volumes: &[Volume]) -> Vec<Degradation> {
    let is_writable = |volume: &&Volume| {
        let Ok(real) = volume.source.canonicalize() else { return false };
        volume.access == Access::ReadOnly && real.starts_with("/tmp") && (!is_root() || mode_of(&real) & 0o2 != 0)
    };
    let said = |volume: &Volume| Degradation {
        what: format!("keeping `{}` read-only", volume.source.display()),
        why: "it lies in `/tmp`, where the function may write".to_owned(),
    };
    volumes.iter().filter(is_writable).map(said).collect()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().map_or(0, |metadata| metadata.mode())
}

fn rules(host: &HostRoot, volumes: &[Volume]) -> Vec<Rule> {
    let read = |path: &Path| Rule { path: path.to_owned(), rights: Rights::Read };
    let of_machine = host.folders.iter().chain(&host.file_binds).chain(host.symlinks.iter().map(|(path, _)| path));
    let names = NAMES.iter().map(Path::new);
    let mut rules: Vec<Rule> = of_machine.map(PathBuf::as_path).chain(names).chain([Path::new("/proc")]).map(read).collect();
    rules.extend(volumes.iter().map(|volume| {
        let rights = if volume.access == Access::ReadOnly { Rights::Read } else { Rights::All };
        Rule { path: volume.source.clone(), rights }
    }));
    rules.extend(DEVICES.map(|name| Rule { path: Path::new("/dev").join(name), rights: Rights::Device }));
    rules.push(Rule { path: "/tmp".into(), rights: Rights::All });
    rules
}

fn translated(words: &[String], volumes: &[Volume]) -> Vec<String> {
    words.iter().map(|word| String::from_utf8_lossy(&translate(word.as_bytes(), volumes)).into_owned()).collect()
}

/// Rewrites every path of a list parted by colons that leads to a volume.
fn translate(text: &[u8], volumes: &[Volume]) -> Vec<u8> {
    let parts = text.split(|&byte| byte == b':').map(|part| {
        let path = Path::new(std::ffi::OsStr::from_bytes(part));
        let found = volumes.iter().find_map(|volume| Some((volume, path.strip_prefix(&volume.target).ok()?)));
        match found {
            Some((volume, rest)) if rest.as_os_str().is_empty() => volume.source.as_os_str().as_bytes().to_vec(),
            Some((volume, rest)) => volume.source.join(rest).into_os_string().into_vec(),
            None => part.to_vec(),
        }
    });
    parts.collect::<Vec<_>>().join(&b':')
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_closed_to_others_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let folder = outer.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("file");
        fs::write(&file, "").unwrap();
        set(outer.path(), 0o755);
        set(&folder, 0o751);
        set(&file, 0o644);
        assert_eq!(is_open_to_others(&file), Ok(()));
        assert_eq!(is_open_to_others(Path::new("/no/such/path")), Ok(()));
        set(&file, 0o640);
        let error = is_open_to_others(&file).unwrap_err().to_string();
        assert!(error.ends_with(&format!("for whom `{}` is closed", file.display())), "{error}");
        set(&folder, 0o750);
        let error = is_open_to_others(&file).unwrap_err().to_string();
        assert!(error.ends_with(&format!("for whom `{}` is closed, and so is `{}`", folder.display(), file.display())), "{error}");
    }

    #[test]
    fn paths_lead_to_sources() {
        let volume = |source: &str, target: &str| Volume { source: source.into(), target: target.into(), access: Access::ReadOnly };
        let volumes = [volume("/src/modules", "/var/task/node_modules"), volume("/src", "/var/task"), volume("/layer", "/opt")];
        for (text, expected) in [
            ("/var/task", "/src"),
            ("/var/task/lib:/opt/lib:/usr/lib", "/src/lib:/layer/lib:/usr/lib"),
            ("/var/task/node_modules/x", "/src/modules/x"),
            ("/var/tasks", "/var/tasks"),
            ("127.0.0.1:9001", "127.0.0.1:9001"),
            ("", ""),
            ("relative/opt", "relative/opt"),
        ] {
            assert_eq!(String::from_utf8(translate(text.as_bytes(), &volumes)).unwrap(), expected);
        }
    }
}
