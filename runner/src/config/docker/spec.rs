//! A run as its record keeps it: everything that `docker run` or `docker create` was told, with names and relative paths resolved, so that it can be started
//! again from anywhere.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rootfs_cache::reference::{ImageReference, ParseReferenceError};
use serde::{Deserialize, Serialize};

use super::{Place, Ulimit};
use crate::config::{
    self, BetweenEvents, Changes, ConfigError, CpuRule, EventsConfig, Keeping, MemorySize, NetworkError, NetworkOptions,
    ParseMemorySizeError, PolicyError, ResultFormat, RootAccess, RunConfig, Stdin, Talk, UnknownEntrypoint, UserNamespace, VolumeError,
};
use crate::sandbox::{Access, TmpSize, Volume};

/// How long an environment stays without work.
const STAYS: Duration = Duration::from_secs(600);

/// What `docker run` and `docker create` take. It is kept in the run's record ([format](../../../../docs/formats/run-record.md)).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSpec {
    /// IMAGE as given.
    pub image: String,
    /// Everything after IMAGE.
    pub arguments: Vec<String>,
    /// `--entrypoint`; empty for none at all.
    pub entrypoint: Option<String>,
    /// The variables, each name once, with what was passed on resolved.
    pub variables: Vec<(String, String)>,
    /// What is shown inside.
    pub mounts: Vec<MountSpec>,
    /// `--workdir`.
    pub working_dir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--network`.
    pub network: Option<String>,
    /// `--publish`, as given.
    pub publish: Vec<String>,
    /// `--publish-all`.
    pub publish_all: bool,
    /// `--expose`, as given.
    pub expose: Vec<String>,
    /// `--add-host`, as given.
    pub add_host: Vec<String>,
    /// `--dns`, `--dns-search`, `--dns-option`: the lines of `/etc/resolv.conf`.
    pub resolver: Vec<String>,
    /// `--memory`, such as `512m`.
    pub memory: Option<String>,
    /// The size of `/tmp`, likewise.
    pub tmp_size: Option<String>,
    /// Whether `--tmpfs` asks for a `/tmp` in memory, which functions have in any case.
    pub tmp_in_memory: bool,
    /// `--cpus`, in microseconds of 100 ms.
    pub cpu_micros: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// `--stop-signal`.
    pub stop_signal: Option<i32>,
    /// `--stop-timeout` in seconds.
    pub stop_timeout: Option<i64>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--init`.
    pub init: bool,
    /// `--rm`.
    pub remove: bool,
    /// `--tty`.
    pub tty: bool,
    /// `--interactive`.
    pub interactive: bool,
    /// `--security-opt`, as given; paths in it are absolute.
    pub security: Vec<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// When the registry is asked.
    pub pull: Pulling,
}

/// Something that is shown inside at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What.
    pub source: VolumeSource,
    /// Where inside.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A host file or folder, by its absolute path.
    Bind(PathBuf),
    /// A volume by its name.
    Named(String),
    /// A volume of the run's own, by the name that it was given; removed with the run.
    Anonymous(String),
}

/// `--restart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub when: Restart,
    /// How often at the most; 0 for any number.
    pub most: u32,
}

/// When a run is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When its exit code is not 0.
    OnFailure,
    /// Whenever it ends and nobody ended it.
    Always,
    /// The same: there is no daemon that could be started anew.
    UnlessStopped,
}

/// When the registry is asked for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pulling {
    /// In any case.
    Always,
    /// When the cache lacks it.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which streams of a run are connected with our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// These.
    pub streams: Vec<Stream>,
    /// Whether signals that we get are passed on (`--sig-proxy`).
    pub pass_signals: bool,
}

impl Attached {
    /// Whether this stream is.
    pub fn has(&self, stream: Stream) -> bool {
        self.streams.contains(&stream)
    }
}

/// Why a run makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The image.
    #[error("invalid reference format")]
    Image(#[source] ParseReferenceError),
    /// A volume.
    #[error("cannot show `{}`", target)]
    Volume {
        /// The place inside.
        target: String,
        /// Why.
        source: VolumeError,
    },
    /// A place inside is none.
    #[error("invalid mount path: '{target}' mount path must be absolute, without `..`, and not `/`")]
    Target {
        /// The place inside.
        target: String,
    },
    /// Two things at one place.
    #[error("Duplicate mount point: {target}")]
    Duplicate {
        /// The place inside.
        target: String,
    },
    /// There is nowhere to keep volumes.
    #[error("there is no place for volumes")]
    NoPlace,
    /// The network.
    #[error(transparent)]
    Network(NetworkError),
    /// The system-call filter.
    #[error(transparent)]
    Policy(PolicyError),
    /// A size.
    #[error(transparent)]
    Size(ParseMemorySizeError),
    /// Memory or working directory.
    #[error(transparent)]
    Config(ConfigError),
    /// The platform.
    #[error("invalid platform `{platform}`")]
    Platform {
        /// As given.
        platform: String,
    },
}

impl SpecError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Volume { source, .. } => source.hint(),
            Self::Network(error) => error.hint(),
            Self::Policy(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::NoPlace => Some("set `UNDOCKED_CACHE` to a folder, or `HOME`".to_owned()),
            Self::Image(_) | Self::Size(_) | Self::Target { .. } | Self::Duplicate { .. } | Self::Platform { .. } => None,
        }
    }
}

impl RunSpec {
    /// The run that this asks for. Under the face of docker nothing of our own variables changes what a function sees.
    pub fn config(&self, place: &Place, talk: Talk) -> Result<RunConfig, SpecError> {
        let security: Vec<OsString> = self.security.iter().map(OsString::from).collect();
        let mut images = place.images.clone();
        images.options.policy = match self.pull {
            Pulling::Always => rootfs_cache::pull::PullPolicy::Always,
            Pulling::Missing => rootfs_cache::pull::PullPolicy::Missing,
            Pulling::Never => rootfs_cache::pull::PullPolicy::Never,
        };
        if let Some(platform) = &self.platform {
            images.options.platform = platform.parse().map_err(|_| SpecError::Platform { platform: platform.clone() })?;
        }
        let variables = self.variables.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        let size = |text: &Option<String>| text.as_deref().map(str::parse::<MemorySize>).transpose().map_err(SpecError::Size);
        Ok(RunConfig {
            image: self.image.parse::<ImageReference>().map_err(SpecError::Image)?,
            arguments: self.arguments.iter().map(OsString::from).collect(),
            entrypoint: self.entrypoint.as_ref().map(OsString::from),
            unknown_entrypoint: UnknownEntrypoint::Command,
            working_dir: config::working_dir(self.working_dir.as_ref().map(PathBuf::from)).map_err(SpecError::Config)?,
            user: self.user.clone(),
            root: if self.read_only { RootAccess::ReadOnly } else { RootAccess::Writable },
            userns: UserNamespace::Single,
            variables,
            own_settings: Vec::new(),
            networking: self.networking(place)?,
            isolation: crate::sandbox::IsolationChoice::default(),
            layers: Vec::new(),
            volumes: self.volumes(place)?,
            memory: config::memory(size(&self.memory)?).map_err(SpecError::Config)?,
            tmp_size: config::tmp_size(size(&self.tmp_size)?),
            tmp_in_memory: match size(&self.tmp_size)? {
                Some(size) if self.tmp_in_memory => Some(TmpSize::Bytes(size.bytes())),
                _ => self.tmp_in_memory.then_some(TmpSize::HalfOfMemory),
            },
            cpu: self.cpu_micros.map_or(CpuRule::Unlimited, |micros_per_100_ms| CpuRule::Share { micros_per_100_ms }),
            timeout: None,
            filter: config::filter(None::<&OsStr>, &security).map_err(SpecError::Policy)?,
            stdin: if self.interactive { Stdin::Inherit } else { Stdin::Null },
            result: ResultFormat::Line,
            keeping: Keeping { idle: STAYS, between: BetweenEvents::GoOn, changes: Changes::Ignore },
            events: EventsConfig { folder: place.images.cache.as_ref().map(|cache| cache.join("events")), ..EventsConfig::default() },
            talk,
            search_path: OsString::new(),
            images,
        })
    }

    fn networking(&self, place: &Place) -> Result<config::Networking, SpecError> {
        // One that was made is private as the bridge is: runs do not reach each other in either.
        let made = |name: &str| place.network(name).is_some_and(|file| file.exists());
        let options = NetworkOptions {
            network: self.network.as_deref().map(|name| if made(name) { "bridge" } else { name }),
            publish: &self.publish,
            add_host: &self.add_host,
            ..NetworkOptions::default()
        };
        let mut networking = config::networking(&options).map_err(SpecError::Network)?;
        if !self.resolver.is_empty() {
            let of_host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let text = resolver(&self.resolver, &of_host);
            networking.name_servers = crate::sandbox::network::NameServers::parse(&text);
            networking.resolver = Some(text);
        }
        Ok(networking)
    }

    /// What is shown inside. Volumes by name are made where they lack, and so are folders on the host, as docker makes them.
    fn volumes(&self, place: &Place) -> Result<Vec<Volume>, SpecError> {
        let mut volumes: Vec<Volume> = Vec::with_capacity(self.mounts.len());
        for mount in &self.mounts {
            let target = config::inside(Path::new(&mount.target)).ok_or_else(|| SpecError::Target { target: mount.target.clone() })?;
            if volumes.iter().any(|other| other.target == target) {
                return Err(SpecError::Duplicate { target: mount.target.clone() });
            }
            let source = match &mount.source {
                VolumeSource::Bind(path) => path.clone(),
                VolumeSource::Named(name) | VolumeSource::Anonymous(name) => {
                    place.volumes.as_ref().ok_or(SpecError::NoPlace)?.join(name).join("_data")
                }
            };
            // What cannot be made is told of as what is not there.
            let _ = if source.symlink_metadata().is_err() { std::fs::create_dir_all(&source) } else { Ok(()) };
            let source = config::readable(&source).map_err(|source| SpecError::Volume { target: mount.target.clone(), source })?;
            let access = if mount.read_only { Access::ReadOnly } else { Access::ReadWrite };
            volumes.push(Volume { source, target, access });
        }
        Ok(volumes)
    }
}

/// The host's resolv.conf(5) with these lines in place of those that say the same.
fn resolver(given: &[String], of_host: &str) -> String {
    fn word(line: &str) -> &str {
        match line.split_whitespace().next().unwrap_or_default() {
            "domain" => "search",
            word => word,
        }
    }
    let kept = of_host.lines().filter(|line| given.iter().all(|own| word(own) != word(line)));
    kept.chain(given.iter().map(String::as_str)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_the_hosts() {
        let of_host = "domain a.b\nnameserver 192.0.2.1\noptions edns0\n";
        for (given, text) in [
            ("search c.d", "nameserver 192.0.2.1\noptions edns0\nsearch c.d\n"),
            ("nameserver 192.0.2.2", "domain a.b\noptions edns0\nnameserver 192.0.2.2\n"),
        ] {
            assert_eq!(resolver(&[given.to_owned()], of_host), text);
        }
    }
}
