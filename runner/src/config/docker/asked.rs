//! What is done with runs, images and volumes by the verbs of docker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Attached, RunSpec};
use crate::config::{ImagesConfig, LoadConfig, RemoveConfig, SaveConfig, TagConfig};

/// One command line under the face of docker.
#[derive(Debug)]
pub enum DockerCommand {
    /// `run`: create and start.
    Run {
        /// What.
        spec: Box<RunSpec>,
        /// `--name`.
        name: Option<String>,
        /// `--cidfile`.
        id_file: Option<PathBuf>,
        /// `-d`: nothing is attached; else what is.
        attached: Option<Attached>,
        /// `--quiet`: nothing is said of pulls.
        quiet: bool,
        /// `--volumes-from`: runs whose mounts are taken over, and whether they become read-only.
        volumes_from: Vec<(String, bool)>,
    },
    /// `create`.
    Create {
        /// What.
        spec: Box<RunSpec>,
        /// `--name`.
        name: Option<String>,
        /// `--cidfile`.
        id_file: Option<PathBuf>,
        /// `--quiet`.
        quiet: bool,
        /// `--volumes-from`.
        volumes_from: Vec<(String, bool)>,
    },
    /// `start`.
    Start {
        /// Which runs.
        runs: Vec<String>,
        /// `-a` and `-i`: what is attached.
        attached: Option<Attached>,
    },
    /// This program again, as the supervisor of a run in the background.
    Supervise {
        /// The run's id.
        id: String,
    },
    /// `ps`.
    Ps(PsAsked),
    /// `logs`.
    Logs(LogsAsked),
    /// `attach`: what is written from now on, and our signals to it.
    Attach {
        /// Which run.
        run: String,
        /// Whether signals are passed on.
        pass_signals: bool,
        /// Whether our input is.
        input: bool,
    },
    /// `stop`.
    Stop(Stopped),
    /// `restart`.
    Restart(Stopped),
    /// `kill`.
    Kill(Signalled),
    /// `pause` and `unpause`.
    Pause {
        /// Which runs.
        runs: Vec<String>,
        /// Whether they go on.
        resume: bool,
    },
    /// `rm`.
    Remove {
        /// Which runs.
        runs: Vec<String>,
        /// Whether running ones are killed.
        force: bool,
        /// Whether their anonymous volumes go, too.
        volumes: bool,
    },
    /// `wait`.
    Wait {
        /// Which runs.
        runs: Vec<String>,
    },
    /// `rename`.
    Rename {
        /// Which run.
        run: String,
        /// Its new name.
        name: String,
    },
    /// `port`.
    Port {
        /// Which run.
        run: String,
        /// Which port inside, as `PORT[/PROTOCOL]`.
        port: Option<String>,
    },
    /// `top`.
    Top {
        /// Which run.
        run: String,
    },
    /// `exec`.
    Exec(ExecAsked),
    /// `cp`.
    Copy {
        /// From.
        from: Copied,
        /// To.
        to: Copied,
        /// Whether a link given as the source is followed.
        follow: bool,
    },
    /// `inspect` of whatever kind has the name.
    Inspect {
        /// Names.
        names: Vec<String>,
        /// Which kind; any when not given.
        kind: Option<ObjectKind>,
        /// `--format`.
        format: Option<String>,
    },
    /// `version`.
    Version {
        /// `--format`.
        format: Option<String>,
    },
    /// `info`.
    Info {
        /// `--format`.
        format: Option<String>,
    },
    /// `pull`.
    Pull {
        /// References.
        images: Vec<String>,
        /// `--platform`.
        platform: Option<String>,
        /// `--quiet`.
        quiet: bool,
    },
    /// `images`.
    Images(ImagesConfig),
    /// `rmi`.
    RemoveImages(RemoveConfig),
    /// `tag`.
    Tag(TagConfig),
    /// `save`.
    Save(SaveConfig),
    /// `load`.
    Load(LoadConfig),
    /// `image prune`: what no name leads to, or all that no run needs.
    PruneImages {
        /// Everything that is not in use.
        all: bool,
    },
    /// `volume create`.
    VolumeCreate {
        /// Its name; one is made up when not given.
        name: Option<String>,
    },
    /// `volume ls`.
    VolumeList {
        /// How.
        show: Show,
        /// Which.
        filters: Filters,
    },
    /// `volume rm`.
    VolumeRemove {
        /// Names.
        names: Vec<String>,
        /// Whether missing ones are no error.
        force: bool,
    },
    /// `network create`.
    NetworkCreate {
        /// Its name.
        name: String,
        /// `--label`.
        labels: BTreeMap<String, String>,
    },
    /// `network rm`.
    NetworkRemove {
        /// Which.
        names: Vec<String>,
        /// Whether one that is not there will do.
        force: bool,
    },
    /// `network prune`.
    NetworkPrune,
    /// `network ls`.
    NetworkList {
        /// How.
        show: Show,
        /// Which.
        filters: Filters,
        /// Whether their ids are whole.
        whole: bool,
    },
    /// `container prune`.
    Prune,
    /// `system prune`: runs that have ended, and images.
    PruneSystem {
        /// Every image that is not in use.
        all: bool,
    },
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A run.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

/// Conditions of `--filter`, as (key, value).
pub type Filters = Vec<(String, String)>;

/// What is printed of each of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// A table.
    Table,
    /// Ids or names alone.
    Quiet,
    /// By a template.
    Format(String),
}

/// `docker ps`.
#[derive(Debug, Clone)]
pub struct PsAsked {
    /// Those that have ended, too.
    pub all: bool,
    /// So many at the most, ended ones too.
    pub last: Option<usize>,
    /// How.
    pub show: Show,
    /// Nothing is shortened.
    pub whole: bool,
    /// Which.
    pub filters: Filters,
}

/// `docker logs`.
#[derive(Debug, Clone)]
pub struct LogsAsked {
    /// Which run.
    pub run: String,
    /// Whether it goes on until the run ends.
    pub follow: bool,
    /// Which lines.
    pub lines: Lines,
    /// Whether each line has its time in front.
    pub timestamps: bool,
}

/// Which lines of a log.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// So many last ones.
    pub tail: Option<usize>,
    /// Not before, as RFC 3339 or a time back.
    pub since: Option<String>,
    /// Not after, likewise.
    pub until: Option<String>,
}

/// `docker stop` and `docker restart`.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// Which runs.
    pub runs: Vec<String>,
    /// The signal in place of the run's own.
    pub signal: Option<i32>,
    /// How long before it is killed in place of the run's own time; nothing with a negative number, which waits for ever.
    pub patience: Option<Option<Duration>>,
}

/// `docker kill`.
#[derive(Debug, Clone)]
pub struct Signalled {
    /// Which runs.
    pub runs: Vec<String>,
    /// Which signal.
    pub signal: i32,
}

/// `docker exec`.
#[derive(Debug, Clone)]
pub struct ExecAsked {
    /// Which run.
    pub run: String,
    /// The command line.
    pub command: Vec<String>,
    /// More variables.
    pub variables: Vec<(String, String)>,
    /// Another working directory.
    pub working_dir: Option<String>,
    /// Another user.
    pub user: Option<String>,
    /// Whether it goes on alone.
    pub detach: bool,
    /// Whether it reads our input.
    pub interactive: bool,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// Inside a run.
    Inside {
        /// Which run.
        run: String,
        /// The path inside.
        path: String,
    },
    /// On this machine.
    Host(PathBuf),
    /// A tar archive on our standard stream.
    Stream,
}
