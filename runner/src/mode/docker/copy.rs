//! `cp`: between this machine and a run, whether that is running or not, and as a tar archive. Links inside are followed inside.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write as _};
use std::path::{Component, Path, PathBuf};

mod side;

use Where::{Here, Inside};
use side::{Kind, Side};

use super::{config_of, ends, find, of_daemon, roots};
use crate::config::docker::{Copied, Place, RunSpec, VolumeSource};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::work::{self, Purpose};
use crate::mode::{open_cache, pull};
use crate::records::Run;
use crate::records::control::{Answer, Order};

/// `docker cp`.
pub(super) fn run((from, to): (&Copied, &Copied), follow: bool, place: &Place) -> Result<ExitCode, Failure> {
    match (from, to) {
        (Copied::Inside { run, path }, Copied::Stream) => {
            let (side, path) = inside(run, path, place)?;
            pack(&side, &path, (follow, run))?;
        }
        (Copied::Stream, Copied::Inside { run, path }) => {
            let (side, path) = inside(run, path, place)?;
            unpack(&side, &path, run)?;
        }
        (Copied::Inside { run, path }, Copied::Host(host)) => {
            let (side, from) = inside(run, path, place)?;
            let (source, target) = (Inside(run), Here);
            copy((&side, &from, path, source), (&Side::of_host()?, &here(host)?, &host.to_string_lossy(), target), follow)?;
            told(&format!("{run}:{path}"), &host.display().to_string());
        }
        (Copied::Host(host), Copied::Inside { run, path }) => {
            let from = here(host)?;
            // Looked for before the run, as by docker's client.
            if let Err(error) = from.symlink_metadata() {
                let why = crate::exit_code::chain(&error).to_lowercase();
                return Err(failed(format!("lstat {}: {why}", normal(&from).display())));
            }
            let (side, to) = inside(run, path, place)?;
            copy((&Side::of_host()?, &from, &host.to_string_lossy(), Here), (&side, &to, path, Inside(run)), follow)?;
            told(&host.display().to_string(), &format!("{run}:{path}"));
        }
        _ => return Err(failed("must specify at least one container source")),
    }
    Ok(ExitCode::SUCCESS)
}

fn told(from: &str, to: &str) {
    let _ = std::io::stderr().write_all(format!("Successfully copied {from} to {to}\n").as_bytes());
}

fn failed(text: impl Into<String>) -> Failure {
    Failure::could_not_run(text.into()).with_code(ExitCode::FUNCTION_FAILED)
}

fn here(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::env::current_dir().map_err(Failure::could_not_run)?.join(path))
}

/// Where a path of a run is: in what is shown there, in its root, or in what runs.
fn inside(name: &str, path: &str, place: &Place) -> Result<(Side, PathBuf), Failure> {
    let run = find(name, place)?;
    let path = normal(path.as_ref());
    if let Some((source, rest)) = shown(&run.record.spec, &path, place) {
        return Ok((Side::below(&source).map_err(|error| failed(format!("{}: {error}", source.display())))?, rest));
    }
    if run.is_held().map_err(of_daemon)? {
        let Answer::Processes(processes) = ends::order(&run, &Order::Root)? else { return Err(failed("it has no processes")) };
        let first = processes.first().ok_or_else(|| failed("it has no processes"))?;
        return Ok((Side::of_process(*first).map_err(|error| failed(format!("process {first}: {error}")))?, path));
    }
    let config = config_of(&run.record.spec, place, place.talk)?;
    let rootfs = pull::find(&config.image, &config.images, config.talk)?;
    Ok((Side::Root(Box::new(roots::of(&run, rootfs, place)?)), path))
}

/// An absolute path without `.` and `..`; `DIR/.` is DIR.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

/// The innermost thing shown around a path, and the path within it.
fn shown(spec: &RunSpec, path: &Path, place: &Place) -> Option<(PathBuf, PathBuf)> {
    let around = spec.mounts.iter().filter(|mount| path.starts_with(&mount.target)).max_by_key(|mount| mount.target.len())?;
    let source = match &around.source {
        VolumeSource::Bind(path) => path.clone(),
        VolumeSource::Named(name) | VolumeSource::Anonymous(name) => place.volumes.clone()?.join(name).join("_data"),
    };
    let rest = Path::new("/").join(path.strip_prefix(&around.target).ok()?);
    Some((source, rest))
}

/// Whether only what is in a folder is meant.
fn is_contents(given: &str) -> bool {
    given.ends_with("/.") || given == "."
}

/// As docker says: into a folder that is there, else under the name that was given.
fn copy(
    (source, from, from_given, from_where): (&Side, &Path, &str, Where<'_>),
    (target, to, to_given, to_where): (&Side, &Path, &str, Where<'_>),
    follow: bool,
) -> Result<(), Failure> {
    let from =
        if follow || is_contents(from_given) { source.followed(from).map_err(|error| failed(error.to_string()))? } else { from.to_owned() };
    let from_io = |error: std::io::Error| failed(format!("{from_given}: {error}"));
    let kind = source.look(&from).map_err(from_io)?.ok_or_else(|| from_where.lacks(from_given.as_ref()))?;
    let is_folder = matches!(kind, Kind::Folder { .. });
    let to_io = |error: std::io::Error| failed(format!("{to_given}: {error}"));
    let to = target.followed(to).map_err(to_io)?;
    let there = target.look(&to).map_err(to_io)?;
    let to = match there {
        Some(Kind::Folder { .. }) if is_folder && is_contents(from_given) => to,
        Some(Kind::Folder { .. }) => to.join(from.file_name().unwrap_or_default()),
        Some(_) if is_folder => return Err(failed("cannot copy directory")),
        Some(_) => to,
        None if to_given.ends_with('/') && !is_folder => {
            return Err(failed("destination directory does not exist"));
        }
        None => {
            let parent = to.parent().unwrap_or(Path::new("/"));
            if !matches!(target.look(parent).map_err(to_io)?, Some(Kind::Folder { .. })) {
                return Err(to_where.lacks_folder(parent));
            }
            to
        }
    };
    all((source, &from), (target, &to)).map_err(to_io)
}

/// Where a path is looked for.
#[derive(Clone, Copy)]
enum Where<'a> {
    /// On this machine.
    Here,
    /// In the run that was named so.
    Inside(&'a str),
}

impl Where<'_> {
    /// There is no such thing.
    fn lacks(self, path: &Path) -> Failure {
        match self {
            Here => failed(format!("lstat {}: no such file or directory", path.display())),
            Inside(run) => failed(format!("Error response from daemon: Could not find the file {} in container {run}", path.display())),
        }
    }

    /// There is no such folder for something to be put into.
    fn lacks_folder(self, path: &Path) -> Failure {
        match self {
            Here => failed(format!("invalid output path: directory \"{}\" does not exist", path.display())),
            Inside(_) => self.lacks(path),
        }
    }
}

/// Everything at a path, to another path.
fn all((source, from): (&Side, &Path), (target, to): (&Side, &Path)) -> std::io::Result<()> {
    match source.look(from)? {
        None => Err(std::io::ErrorKind::NotFound.into()),
        Some(Kind::File { mode }) => target.put(to, &mut source.open(from)?, mode),
        Some(Kind::Link { to: link }) => target.put_link(to, &link),
        Some(Kind::Folder { mode }) => {
            target.make_dir(to, mode)?;
            source.names(from)?.into_iter().try_for_each(|name| all((source, &from.join(&name)), (target, &to.join(&name))))
        }
        // As tar does it with sockets; nobody copies devices.
        Some(Kind::Other) => Ok(()),
    }
}

/// A tar archive on our standard output.
fn pack(source: &Side, path: &Path, (follow, run): (bool, &str)) -> Result<(), Failure> {
    let path = if follow { source.followed(path).map_err(Failure::could_not_run)? } else { path.to_owned() };
    if source.look(&path).map_err(Failure::could_not_run)?.is_none() {
        return Err(Inside(run).lacks(&path));
    }
    let mut tar = tar::Builder::new(std::io::stdout().lock());
    let name = path.file_name().map_or_else(|| OsString::from("."), OsStr::to_owned);
    add(&mut tar, source, &path, Path::new(&name)).and_then(|()| tar.finish()).map_err(|error| failed(error.to_string()))
}

fn add(tar: &mut tar::Builder<impl std::io::Write>, source: &Side, path: &Path, name: &Path) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    let (modified, (user, group)) = source.time_and_owner(path)?;
    header.set_mtime(modified);
    header.set_uid(user.into());
    header.set_gid(group.into());
    match source.look(path)? {
        Some(Kind::File { mode }) => {
            let mut file = source.open(path)?;
            let length = file.metadata()?.len();
            header.set_size(length);
            header.set_mode(mode);
            tar.append_data(&mut header, name, (&mut file).take(length))
        }
        Some(Kind::Link { to }) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            tar.append_link(&mut header, name, to)
        }
        Some(Kind::Folder { mode }) => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            header.set_mode(mode);
            tar.append_data(&mut header, name, std::io::empty())?;
            source.names(path)?.into_iter().try_for_each(|entry| add(tar, source, &path.join(&entry), &name.join(&entry)))
        }
        _ => Ok(()),
    }
}

/// A tar archive from our standard input into a folder that is there.
fn unpack(target: &Side, path: &Path, run: &str) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| failed(format!("cannot unpack the archive: {error}"));
    if !matches!(target.look(&target.followed(path).map_err(wrong)?).map_err(wrong)?, Some(Kind::Folder { .. })) {
        return Err(Inside(run).lacks(path));
    }
    let mut archive = tar::Archive::new(std::io::stdin().lock());
    for entry in archive.entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        let name = normal(&entry.path().map_err(wrong)?);
        let to = path.join(name.strip_prefix("/").unwrap_or(&name));
        let mode = entry.header().mode().unwrap_or(0o644);
        let done = match entry.header().entry_type() {
            tar::EntryType::Directory => target.make_dir(&to, mode),
            tar::EntryType::Symlink => match entry.link_name().map_err(wrong)? {
                Some(link) => target.put_link(&to, &link),
                None => Ok(()),
            },
            tar::EntryType::Link => match entry.link_name().map_err(wrong)? {
                Some(link) => {
                    let first = path.join(normal(&link).strip_prefix("/").unwrap_or(Path::new("")));
                    target.open(&first).and_then(|mut first| target.put(&to, &mut first, mode))
                }
                None => Ok(()),
            },
            kind if kind.is_file() => target.put(&to, &mut entry, mode),
            _ => Ok(()),
        };
        done.map_err(wrong)?;
    }
    Ok(())
}

/// What was copied into a function's root before its start, as folders to be shown: its root is not written to, so that they are shown over it. Each is a
/// whole tree, with what the image has there.
pub(super) fn shown_over(run: &Run, place: &Place) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let Some(folder) = roots::existing(run, place) else { return Ok(Vec::new()) };
    let config = config_of(&run.record.spec, place, place.talk)?;
    if !matches!(work::of(&config)?.purpose, Purpose::Function { .. }) {
        return Ok(Vec::new());
    }
    let _ = open_cache(&config.images)?;
    let rootfs = pull::find(&config.image, &config.images, config.talk)?;
    let root = roots::of(run, rootfs, place)?;
    let mut targets: Vec<PathBuf> = Vec::new();
    for change in root.changes().map_err(crate::mode::writable::failed)? {
        let path = Path::new("/").join(&change.path);
        let usual = ["/var/task", "/opt"].into_iter().map(Path::new).find(|usual| path.starts_with(usual));
        let target = match usual {
            Some(usual) => usual.to_owned(),
            // Folders above are not changed by what is in them.
            None if ["/var/task", "/opt"].iter().any(|usual| Path::new(usual).starts_with(&path)) => continue,
            None => path.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        if targets.iter().all(|known| !target.starts_with(known)) {
            targets.push(target);
        }
    }
    let mut shown = Vec::new();
    let source = Side::Root(Box::new(root));
    for (number, target) in targets.into_iter().filter(|target| target != Path::new("/")).enumerate() {
        let copy = folder.with_extension(format!("shown{number}"));
        crate::sandbox::run_folder::remove_tree(&copy);
        all((&source, &target), (&Side::of_host()?, &copy)).map_err(|error| failed(format!("{}: {error}", target.display())))?;
        shown.push((copy, target));
    }
    Ok(shown)
}
