//! `COPY` and `ADD`.

use rootfs_cache::digest::Digest;
use rootfs_cache::manifest::Descriptor;
use rootfs_cache::rootfs::Rootfs;
use rootfs_cache::store::StoredLayer;

use super::address::{self, Kind};
use super::below::Below;
use super::stage::StageBuild;
use super::{Builder, ByNumber, Fetched, StepError, earlier, spec_of, start_key};
use crate::build::context::archive_entries;
use crate::build::copy::{self, Destination, Origin, Taken};
use crate::build::dockerfile::{Addition, ContentSource, CopyStep, Step, Wrong};
use crate::build::ignore::Ignore;
use crate::build::keys::KeyText;
use crate::build::layer::{Content, Entry};
use crate::build::tree::Tree;
use crate::build::words;
use crate::exit_code::Failure;

/// A copy whose words are expanded.
struct Wanted<'a> {
    step: &'a CopyStep,
    sources: Vec<String>,
    target: String,
    chown: Option<String>,
    mode: Option<u32>,
    checksum: Option<Digest>,
}

/// What is there until the layer is made: unpacked archives, and files without names.
#[derive(Default)]
struct Held {
    archives: Vec<StoredLayer>,
    files: Vec<Fetched>,
}

impl Builder<'_> {
    pub(super) fn copy(&mut self, build: &mut StageBuild, number: usize, step: &Step, copy: &CopyStep) -> Result<(), StepError> {
        let wanted = self.wanted(build, copy)?;
        let key = KeyText::after(&build.key, "copy").and(if copy.addition == Addition::Add { "add" } else { "copy" });
        let key = key.and(&wanted.target).and(wanted.chown.as_deref().unwrap_or_default()).and(format!("{:?}", wanted.mode));
        let mut held = Held::default();
        let (key, layer) = match (&copy.from, &wanted.checksum) {
            // What comes is known before it is there.
            (None, Some(checksum)) => {
                let key = key.and("checksum").and(checksum.hex()).and(&wanted.sources[0]).key();
                let known = self.known(&key)?;
                let gathered = |builder: &Self, build: &StageBuild| builder.taken_from_context(build, &wanted, &mut held);
                (key, self.or_placed(build, &wanted, known, gathered)?)
            }
            (None, None) => {
                let taken = self.taken_from_context(build, &wanted, &mut held)?;
                let key = key.and(copy::content_key(&taken)?.hex()).key();
                let known = self.known(&key)?;
                (key, self.or_placed(build, &wanted, known, move |_, _| Ok(taken))?)
            }
            (Some(from), _) => {
                let (origin_key, tree) = self.origin(number, from)?;
                let key = wanted.sources.iter().fold(key.and(origin_key), |key, source| key.and(source)).key();
                let known = self.known(&key)?;
                let gathered = |builder: &Self, _: &StageBuild| builder.taken_from_tree(&tree.open(builder)?, &wanted);
                (key, self.or_placed(build, &wanted, known, gathered)?)
            }
        };
        let created_by = if copy.from.is_some() { step.text.clone() } else { self.told(&wanted) };
        self.keep(build, key, &created_by, layer)
    }

    fn or_placed(
        &self,
        build: &mut StageBuild,
        wanted: &Wanted<'_>,
        known: Option<Option<crate::build::layer::MadeLayer>>,
        taken: impl FnOnce(&Self, &StageBuild) -> Result<Vec<Taken>, StepError>,
    ) -> Result<Option<crate::build::layer::MadeLayer>, StepError> {
        if let Some(layer) = known {
            return Ok(layer);
        }
        let taken = taken(self, build)?;
        let working_dir = build.spec.working_dir().to_owned();
        let tree = build.tree(self.cache)?;
        let owner = wanted.chown.as_deref().map(|chown| copy::owner(tree, chown)).transpose()?;
        let destination = Destination { tree, working_dir: &working_dir, target: &wanted.target, owner, mode: wanted.mode };
        let entries = copy::place(destination, taken)?;
        self.made(build, entries)
    }

    fn wanted<'s>(&self, build: &StageBuild, step: &'s CopyStep) -> Result<Wanted<'s>, StepError> {
        let mut sources = Vec::new();
        for source in &step.sources {
            if let ContentSource::Path(path) = source {
                sources.push(self.expanded(build, path)?);
            }
        }
        let checksum = step.checksum.as_ref().map(|checksum| self.expanded(build, checksum)).transpose()?;
        let checksum = checksum.map(|text| address::checksum(&text, step.sources.len(), &sources)).transpose()?;
        let chmod = step.chmod.as_ref().map(|mode| self.expanded(build, mode)).transpose()?;
        Ok(Wanted {
            step,
            sources,
            target: self.expanded(build, &step.target)?,
            chown: step.chown.as_ref().map(|owner| self.expanded(build, owner)).transpose()?,
            mode: chmod.map(|mode| copy::mode(&mode)).transpose()?,
            checksum,
        })
    }

    fn told(&self, wanted: &Wanted<'_>) -> String {
        let word = if wanted.step.addition == Addition::Add { "ADD" } else { "COPY" };
        let mut parts = vec![word.to_owned()];
        parts.extend(wanted.step.chown.as_ref().map(|owner| format!("--chown={owner}")));
        parts.extend(wanted.step.chmod.as_ref().map(|mode| format!("--chmod={mode}")));
        parts.extend(wanted.checksum.as_ref().map(|checksum| format!("--checksum={checksum}")));
        parts.extend(wanted.step.sources.iter().filter_map(|source| match source {
            ContentSource::Text { name, .. } => Some(format!("<<{name}")),
            ContentSource::Path(_) => None,
        }));
        parts.extend(wanted.sources.iter().cloned());
        parts.push(wanted.target.clone());
        parts.join(" ")
    }

    fn taken_from_context(&self, build: &StageBuild, wanted: &Wanted<'_>, held: &mut Held) -> Result<Vec<Taken>, StepError> {
        let mut taken = Vec::new();
        for source in &wanted.step.sources {
            if let ContentSource::Text { name, text, expand } = source {
                let escape = self.recipe.dockerfile.escape;
                let text = if *expand { words::expand_text(text, escape, &|name| self.value(build, name))? } else { text.clone() };
                let entry = Entry { content: Content::Bytes(text.into_bytes()), mode: 0o644, owner: (0, 0) };
                taken.push(Taken::File(name.into(), entry));
            }
        }
        let origin = Origin { tree: &self.recipe.context.tree, ignore: &self.recipe.context.ignore };
        for source in &wanted.sources {
            let is_add = wanted.step.addition == Addition::Add;
            match if is_add { address::kind(source)? } else { Kind::Path } {
                Kind::Path => {}
                Kind::Address(address) => {
                    let name = address::name(source, &address, &wanted.target)?;
                    taken.push(self.downloaded(&address, name, wanted.checksum.as_ref(), &mut held.files)?);
                    continue;
                }
                Kind::Repository => {
                    let hint = "clone it before the build, or with a `RUN git`; then `COPY` it";
                    return Err(Wrong::hint(format!("`ADD {source}`: repositories are not supported"), hint).into());
                }
            }
            for found in copy::gather(origin, source)? {
                taken.push(if is_add { self.unpacked(found, held)? } else { found });
            }
        }
        Ok(taken)
    }

    fn unpacked(&self, found: Taken, held: &mut Held) -> Result<Taken, StepError> {
        let Taken::File(_, Entry { content: Content::File(path), .. }) = &found else { return Ok(found) };
        let unpacked = archive_entries(path, self.cache, self.limits).map_err(|error| {
            let hint = error.hint();
            StepError::Failed(Failure::could_not_run(error).with_hint(hint))
        })?;
        Ok(match unpacked {
            Some((entries, layer)) => {
                held.archives.push(layer);
                Taken::Archive(entries)
            }
            None => found,
        })
    }

    fn taken_from_tree(&self, tree: &Tree, wanted: &Wanted<'_>) -> Result<Vec<Taken>, StepError> {
        let origin = Origin { tree, ignore: &Ignore::default() };
        let mut taken = Vec::new();
        for source in &wanted.sources {
            taken.extend(copy::gather(origin, source)?);
        }
        Ok(taken)
    }

    /// What `--from` names: a stage before, else an image. With what stands for all that it holds.
    pub(super) fn origin(&self, number: usize, from: &str) -> Result<(Vec<u8>, FromTree), StepError> {
        let stage = earlier(self.recipe.dockerfile, number, from, ByNumber::Yes);
        if let Some(stage) = stage.and_then(|stage| self.done[stage].clone()) {
            return Ok((stage.key.hex().into_bytes(), FromTree::Stage(stage)));
        }
        let rootfs = (self.hands.find)(from, self.recipe.platform).map_err(StepError::Failed)?;
        let key = start_key(&rootfs.manifest_digest().hex(), self.recipe.platform, self.recipe.epoch);
        let (_, _, layers) = spec_of(self.cache, &rootfs, self.recipe.epoch).map_err(StepError::Failed)?;
        Ok((key.hex().into_bytes(), FromTree::Image(Box::new(rootfs), layers)))
    }
}

/// What `--from` names.
pub(super) enum FromTree {
    Stage(std::rc::Rc<StageBuild>),
    Image(Box<Rootfs>, Vec<Descriptor>),
}

impl FromTree {
    pub(super) fn open(&self, builder: &Builder<'_>) -> Result<Tree, StepError> {
        match self {
            Self::Stage(stage) => Ok(stage.tree_when_done(builder.cache)?),
            Self::Image(rootfs, layers) => Ok(Below::read(builder.cache, rootfs, layers)?.tree(rootfs)),
        }
    }
}
