//! What `RUN --mount` shows to a command, and what is left where it was shown.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::add::FromTree;
use super::run::of_root;
use super::stage::StageBuild;
use super::{Builder, ShownFolder, StepError, Writable};
use crate::build::config::clean;
use crate::build::copy::{self, Origin, Taken};
use crate::build::dockerfile::{Missing, Mount, MountKind, Writes, Wrong};
use crate::build::ignore::Ignore;
use crate::build::keys::KeyText;
use crate::build::layer::{Content, Entry, LayerError};
use crate::build::tree::Tree;
use crate::exit_code::Failure;
use crate::sandbox::run_folder::{self, RunFolder};
use crate::writable::WritableRoot;

/// What a command sees by its mounts.
#[derive(Default)]
pub(super) struct Mounts {
    /// Files and folders.
    pub(super) shown: Vec<ShownFolder>,
    /// Secrets that are variables.
    pub(super) variables: Vec<(String, String)>,
    /// Folders that go with the command.
    held: Vec<RunFolder>,
}

impl Builder<'_> {
    /// A mount as a part of a step's key: what is kept or secret is no part of it.
    pub(super) fn mount_key(&self, key: KeyText, build: &StageBuild, number: usize, mount: &Mount) -> Result<KeyText, StepError> {
        let target = mount.target.as_ref().map(|target| self.expanded(build, target)).transpose()?;
        let key = key.and(target.unwrap_or_default());
        Ok(match &mount.kind {
            MountKind::Cache { id } => key.and("cache").and(id),
            MountKind::Empty => key.and("empty"),
            MountKind::Secret { id, variable, .. } => key.and("secret").and(id).and(variable.as_deref().unwrap_or_default()),
            MountKind::Bind { from: None, source, .. } => {
                let taken = [self.one(self.context(), &self.expanded(build, source)?)?];
                key.and("context").and(copy::content_key(&taken)?.hex())
            }
            MountKind::Bind { from: Some(from), source, .. } => {
                key.and("from").and(self.origin(number, from)?.0).and(self.expanded(build, source)?)
            }
        })
    }

    /// Makes ready what the mounts show.
    pub(super) fn mounts(&self, build: &StageBuild, number: usize, mounts: &[Mount]) -> Result<Mounts, StepError> {
        let mut made = Mounts::default();
        for mount in mounts {
            let target = mount.target.as_ref().map(|target| self.expanded(build, target)).transpose()?;
            let (source, writable) = match &mount.kind {
                MountKind::Cache { id } => (self.cache.build_folder(id).map_err(LayerError::Cache)?, Writable::Yes),
                MountKind::Empty => (self.folder(&mut made)?, Writable::Yes),
                MountKind::Secret { id, variable, missing } => {
                    let Some(secret) = self.secret(id, *missing)? else { continue };
                    if let Some(variable) = variable {
                        made.variables.push((variable.clone(), String::from_utf8_lossy(secret).into_owned()));
                    }
                    let file = self.folder(&mut made)?.join("secret");
                    let entry = Entry { content: Content::Bytes(secret.to_vec()), mode: 0o400, owner: (0, 0) };
                    write(&file, &entry).map_err(cannot_write)?;
                    (file, Writable::No)
                }
                MountKind::Bind { from, source, writes } => {
                    let source = self.expanded(build, source)?;
                    let origin = from.as_ref().map(|from| self.origin(number, from)).transpose()?.map(|(_, tree)| tree);
                    let writable = if *writes == Writes::Forgotten { Writable::Yes } else { Writable::No };
                    (self.bound(origin, &source, *writes, &mut made)?, writable)
                }
            };
            let Some(target) = target else { continue };
            let target = if target.starts_with('/') { target } else { format!("{}/{target}", build.spec.working_dir()) };
            made.shown.push(ShownFolder { source, target: PathBuf::from(clean(&target)), writable });
        }
        Ok(made)
    }

    /// Where a bind mount's files are: as they lie, where that shows no more than there is and nothing can be written; else a copy.
    fn bound(&self, origin: Option<FromTree>, source: &str, writes: Writes, made: &mut Mounts) -> Result<PathBuf, StepError> {
        let as_it_lies = match (&origin, &self.recipe.context.folder) {
            (Some(FromTree::Image(image, _)), _) => Some(image.path()),
            (None, Some(folder)) if self.recipe.context.ignore.is_empty() => Some(folder.as_path()),
            _ => None,
        };
        let tree = origin.as_ref().map(|origin| origin.open(self)).transpose()?;
        let everything = Ignore::default();
        let origin = tree.as_ref().map_or_else(|| self.context(), |tree| Origin { tree, ignore: &everything });
        if let Some(folder) = as_it_lies.filter(|_| writes == Writes::Refused) {
            let path = clean(source);
            let relative = Path::new(path.trim_start_matches('/'));
            let resolved = origin.tree.resolve(relative).and_then(|path| Ok(origin.tree.node(&path)?.map(|_| path)));
            let resolved = resolved.map_err(|source| LayerError::Read { path: relative.to_owned(), source })?;
            return resolved.map(|path| folder.join(path)).ok_or_else(|| not_there(source).into());
        }
        let taken = self.one(origin, source)?;
        let place = self.folder(made)?.join("copy");
        write_taken(&place, &taken).map_err(cannot_write)?;
        Ok(place)
    }

    fn context(&self) -> Origin<'_> {
        Origin { tree: &self.recipe.context.tree, ignore: &self.recipe.context.ignore }
    }

    /// What a source names, which is one thing.
    fn one(&self, origin: Origin<'_>, source: &str) -> Result<Taken, StepError> {
        let mut taken = copy::gather(origin, source)?;
        match (taken.pop(), taken.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(not_there(source).into()),
        }
    }

    fn secret(&self, id: &str, missing: Missing) -> Result<Option<&[u8]>, StepError> {
        match self.recipe.secrets.iter().rfind(|(name, _)| name == id) {
            Some((_, secret)) => Ok(Some(secret)),
            None if missing == Missing::Left => Ok(None),
            None => {
                Err(Wrong::hint(format!("the secret `{id}` was not given"), format!("`--secret id={id},src=FILE`, or `env=NAME`")).into())
            }
        }
    }

    /// A fresh folder that nobody else sees.
    fn folder(&self, made: &mut Mounts) -> Result<PathBuf, StepError> {
        let folder = RunFolder::create(&run_folder::parent(self.cache.root()));
        let folder = folder.map_err(|error| {
            let hint = error.hint();
            StepError::Failed(Failure::could_not_run(error).with_hint(hint))
        })?;
        let path = folder.path().to_owned();
        made.held.push(folder);
        Ok(path)
    }
}

/// Removes what was made in a root to show something at, where nothing was before and nothing is in it: as docker does.
pub(super) fn remove_places(root: &WritableRoot, before: &Tree, targets: &[PathBuf]) -> Result<(), StepError> {
    for target in targets {
        let relative = target.strip_prefix("/").unwrap_or(target);
        let read = |source| LayerError::Read { path: target.clone(), source };
        let path = before.resolve(relative).map_err(read)?;
        for path in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            if before.node(path).map_err(read)?.is_some() {
                break;
            }
            let Some(on_host) = root.look(path).map_err(of_root)? else { continue };
            let metadata = on_host.symlink_metadata().map_err(read)?;
            let is_empty = match metadata.is_dir() {
                true => root.list(path).map_err(of_root)?.is_empty(),
                false => metadata.is_file() && metadata.len() == 0,
            };
            if !is_empty {
                break;
            }
            root.remove_path(path).map_err(of_root)?;
        }
    }
    Ok(())
}

fn not_there(source: &str) -> Wrong {
    Wrong::new(format!("`{source}` is not there"))
}

fn cannot_write(source: io::Error) -> LayerError {
    LayerError::Write(source)
}

fn write_taken(place: &Path, taken: &Taken) -> io::Result<()> {
    let entries = match taken {
        Taken::File(_, entry) => return write(place, entry),
        Taken::Folder(entries) | Taken::Archive(entries) => entries,
    };
    DirBuilder::new().mode(0o755).create(place)?;
    for (path, entry) in entries {
        write(&place.join(path), entry)?;
    }
    // Last, for a folder may be closed to whoever writes into it.
    for (path, entry) in entries.iter().rev().filter(|(_, entry)| entry.content == Content::Directory) {
        fs::set_permissions(place.join(path), Permissions::from_mode(entry.mode & 0o7777))?;
    }
    Ok(())
}

fn write(place: &Path, entry: &Entry) -> io::Result<()> {
    let create = || File::options().write(true).create_new(true).mode(0o600).open(place);
    let file = match &entry.content {
        Content::Directory => return DirBuilder::new().mode(0o700).create(place),
        Content::Symlink(target) => return symlink(target, place),
        Content::File(source) => {
            let mut file = create()?;
            io::copy(&mut File::open(source)?, &mut file)?;
            file
        }
        Content::Bytes(bytes) => {
            let mut file = create()?;
            file.write_all(bytes)?;
            file
        }
        // Nobody reads from a pipe of a copy.
        Content::Fifo | Content::Link(_) | Content::Removed => return Ok(()),
    };
    file.set_permissions(Permissions::from_mode(entry.mode & 0o7777))
}
