//! Where a repository's images are asked for: the registry itself, or elsewhere, and its mirrors, as `registries.conf` (version 2) and the user's options say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Notes;
use super::access::{Mirror, RegistryAccess, Transport};
use super::http::{HttpError, is_loopback};
use crate::reference::RegistryReference;

/// What a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AskedFor {
    /// Everything.
    #[default]
    All,
    /// Only what a digest names.
    DigestOnly,
    /// Only what a tag means.
    TagOnly,
}

/// A repository at one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its registry and repository.
    pub(super) reference: RegistryReference,
    pub(super) transport: Transport,
    pub(super) asked_for: AskedFor,
}

/// Where a repository is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) mirrors: Vec<Place>,
    pub(super) registry: Place,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<Entry>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorEntry>,
    /// Not of the file.
    #[serde(skip)]
    file: PathBuf,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
struct MirrorEntry {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<AskedFor>,
}

/// Finds where a repository is. A file that cannot be opened is told of and left out; one that makes no sense is an error, for it may forbid something.
pub(super) fn places(reference: &RegistryReference, access: &RegistryAccess, notes: Notes<'_>) -> Result<Places, HttpError> {
    let name = format!("{}/{}", reference.registry(), reference.repository());
    let given = access.mirrors.iter().filter_map(|mirror| given_mirror(mirror, &name));
    let mut mirrors: Vec<Place> = given.collect();
    let entry = entries(&access.registries, notes)?.into_iter().filter_map(|entry| Some((matched(&entry.prefix, &name)?.len(), entry)));
    let Some((length, entry)) = entry.max_by_key(|(length, _)| *length) else {
        return Ok(Places { mirrors, registry: usual(reference) });
    };
    if entry.blocked {
        return Err(HttpError::Blocked { path: entry.file });
    }
    let rest = &name[length..];
    let place = |location: &str, insecure, asked_for| {
        let reference = moved(location, rest).ok_or_else(|| HttpError::Registries {
            path: entry.file.clone(),
            reason: format!("`{location}` is no registry with an optional path"),
        })?;
        Ok(Place { reference, transport: if insecure { Transport::Insecure } else { Transport::Usual }, asked_for })
    };
    let by_default = if entry.mirror_by_digest_only { AskedFor::DigestOnly } else { AskedFor::All };
    for mirror in &entry.mirror {
        mirrors.push(place(&mirror.location, mirror.insecure, mirror.pull_from_mirror.unwrap_or(by_default))?);
    }
    let registry = match entry.location.as_str() {
        "" => Place { transport: if entry.insecure { Transport::Insecure } else { Transport::Usual }, ..usual(reference) },
        location => place(location, entry.insecure, AskedFor::All)?,
    };
    Ok(Places { mirrors, registry })
}

impl Place {
    /// Plain HTTP is for loopback, and for hosts the user declared insecure.
    pub(super) fn is_plain(&self, insecure: &[String]) -> bool {
        let (registry, host) = (self.reference.registry(), self.reference.host());
        match self.transport {
            Transport::Insecure => true,
            Transport::Tls => false,
            Transport::Usual => is_loopback(host) || insecure.iter().any(|declared| declared == registry || declared == host),
        }
    }
}

fn usual(reference: &RegistryReference) -> Place {
    Place { reference: reference.clone(), transport: Transport::Usual, asked_for: AskedFor::All }
}

fn given_mirror(mirror: &Mirror, name: &str) -> Option<Place> {
    let rest = &name[matched(&mirror.of, name)?.len()..];
    Some(Place { reference: moved(&mirror.location, rest)?, transport: mirror.transport, asked_for: AskedFor::All })
}

/// The part of a name that a prefix covers: the prefix itself, or the host where `*.DOMAIN` covers that.
fn matched<'n>(prefix: &str, name: &'n str) -> Option<&'n str> {
    if let Some(domain) = prefix.strip_prefix('*').filter(|domain| domain.starts_with('.')) {
        let host = name.split('/').next()?;
        return host.ends_with(domain).then_some(host);
    }
    let rest = name.strip_prefix(prefix)?;
    (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then(|| &name[..prefix.len()])
}

/// The repository under another location.
fn moved(location: &str, rest: &str) -> Option<RegistryReference> {
    let name = format!("{}{rest}", location.trim_end_matches('/'));
    let (host, repository) = name.split_once('/')?;
    let parsed: RegistryReference = format!("{host}/{repository}").parse().ok()?;
    let is_hub = matches!(host, "docker.io" | "index.docker.io");
    (is_hub || parsed.registry() == host).then_some(parsed)
}

/// The entries of all files; those of later files take the place of earlier ones with the same prefix.
fn entries(files: &[PathBuf], notes: Notes<'_>) -> Result<Vec<Entry>, HttpError> {
    let mut entries: Vec<Entry> = Vec::new();
    for file in files.iter().flat_map(|file| expanded(file)) {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => {
                notes(&format!("`{}` cannot be read: {error}: going without it", file.display()));
                continue;
            }
        };
        let malformed = |reason: String| HttpError::Registries { path: file.clone(), reason };
        let document: Document = toml::from_str(&text).map_err(|error| malformed(error.message().to_owned()))?;
        for mut entry in document.registry {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            if entry.prefix.is_empty() {
                return Err(malformed("a `[[registry]]` has neither `prefix` nor `location`".to_owned()));
            }
            entry.file.clone_from(&file);
            entries.retain(|other| other.prefix != entry.prefix || other.file == file);
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// A folder stands for the `*.conf` in it, in the order of their names.
fn expanded(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        prefix = "docker.io"
        [[registry.mirror]]
        location = "mirror.local:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "localhost:5001"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "docker.io/lambci"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "mirror.local"
        [[registry]]
        prefix = "old.example"
        location = "new.example/moved"
        [[registry]]
        prefix = "*.evil.example"
        blocked = true
        [[registry]]
        location = "plain.example:5000"
        insecure = true
    "#;

    fn found(reference: &str, access: &RegistryAccess) -> String {
        let quiet = |note: &str| panic!("{note}");
        let shown = |place: &Place| {
            let asked_for = if place.asked_for == AskedFor::All { String::new() } else { format!(" {:?}", place.asked_for) };
            let insecure = if place.transport == Transport::Insecure { " insecure" } else { "" };
            format!("{}/{}{insecure}{asked_for}", place.reference.registry(), place.reference.repository())
        };
        match places(&reference.parse().unwrap(), access, &quiet) {
            Ok(places) => places.mirrors.iter().chain([&places.registry]).map(shown).collect::<Vec<_>>().join(", "),
            Err(HttpError::Blocked { .. }) => "blocked".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn mirrors_and_rewritten_places() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registries.conf");
        fs::write(&file, FILE).unwrap();
        let given = ["near.local", "public.ecr.aws/lambda=http://near.local/ecr"].map(|text| text.parse().unwrap()).to_vec();
        let with_file = RegistryAccess { registries: vec![folder.path().join("none"), file], ..RegistryAccess::default() };
        let with_both = RegistryAccess { mirrors: given, ..with_file.clone() };
        for (reference, access, wanted) in [
            ("debian", &RegistryAccess::default(), "docker.io/library/debian"),
            (
                "debian",
                &with_file,
                "mirror.local:5000/hub/library/debian insecure, localhost:5001/library/debian DigestOnly, docker.io/library/debian",
            ),
            ("lambci/lambda", &with_file, "mirror.local/lambda DigestOnly, docker.io/lambci/lambda"),
            (
                "lambcix/lambda",
                &with_file,
                "mirror.local:5000/hub/lambcix/lambda insecure, localhost:5001/lambcix/lambda DigestOnly, docker.io/lambcix/lambda",
            ),
            ("old.example/a/b", &with_file, "new.example/moved/a/b"),
            ("a.evil.example/x", &with_file, "blocked"),
            ("evil.example/x", &with_file, "evil.example/x"),
            ("plain.example:5000/x", &with_file, "plain.example:5000/x insecure"),
            ("lambci/lambda", &with_both, "near.local/lambci/lambda, mirror.local/lambda DigestOnly, docker.io/lambci/lambda"),
            ("public.ecr.aws/lambda/python", &with_both, "near.local/ecr/python insecure, public.ecr.aws/lambda/python"),
            ("public.ecr.aws/lambdas/python", &with_both, "public.ecr.aws/lambdas/python"),
        ] {
            assert_eq!(found(reference, access), wanted, "{reference}");
        }
    }

    #[test]
    fn later_files_win_and_folders_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, location: &str| {
            fs::write(folder.path().join(name), format!("[[registry]]\nprefix = \"a.example\"\nlocation = \"{location}\"\n")).unwrap();
        };
        write("1.conf", "one.example");
        write("2.conf", "two.example");
        write("3.off", "three.example");
        let access = RegistryAccess { registries: vec![folder.path().to_owned()], ..RegistryAccess::default() };
        assert_eq!(found("a.example/x", &access), "two.example/x");
        write("2.conf", "not a host");
        assert!(found("a.example/x", &access).contains("no registry with an optional path"));
        fs::write(folder.path().join("2.conf"), "[[registry]]\nblocked = \"perhaps\"").unwrap();
        assert!(found("a.example/x", &access).contains("2.conf"));
        fs::write(folder.path().join("2.conf"), "[[registry]]\nblocked = true").unwrap();
        assert!(found("a.example/x", &access).contains("neither `prefix` nor `location`"));
    }
}
