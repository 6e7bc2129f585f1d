//! What a step of a stage says.

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its line in the file.
    pub line: usize,
    /// As it was written, on one line.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
}

/// Names and values, in their order; variables in the values are not expanded.
pub type Arguments = Vec<(String, String)>;

/// What an instruction says. Words are as they were written: variables are not expanded, quotes are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD` and `COPY`.
    Copy(CopyStep),
    /// `RUN`.
    Run(RunStep),
    /// `ENV`.
    Env(Arguments),
    /// `ARG`: names and defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `WORKDIR`.
    Workdir(String),
    /// `USER`.
    User(String),
    /// `CMD`.
    Cmd(CommandForm),
    /// `ENTRYPOINT`.
    Entrypoint(CommandForm),
    /// `LABEL`.
    Label(Arguments),
    /// `EXPOSE`.
    Expose(Vec<String>),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `HEALTHCHECK`.
    Healthcheck(Health),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction that follows, as text.
    Onbuild(String),
}

/// A command, in either form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandForm {
    /// A text for the shell.
    Shell(String),
    /// Words.
    Exec(Vec<String>),
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// No check.
    None,
    /// A check: options by their names, and the command.
    Check(Vec<(String, String)>, CommandForm),
}

/// Which of the two instructions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addition {
    /// `COPY`: as it is.
    Copy,
    /// `ADD`: archives are unpacked, addresses downloaded.
    Add,
}

/// `ADD` and `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStep {
    /// Which of the two.
    pub addition: Addition,
    /// `--from`.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--checksum`: what an address has to give.
    pub checksum: Option<String>,
    /// What is copied; at least one.
    pub sources: Vec<ContentSource>,
    /// Where it goes.
    pub target: String,
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentSource {
    /// A path, perhaps with wildcards; of `ADD` an address, too.
    Path(String),
    /// A here-document.
    Text {
        /// The name of its end, which is the file's name.
        name: String,
        /// What the file holds.
        text: String,
        /// Whether variables are expanded in it.
        expand: bool,
    },
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// What is run.
    pub command: ShellText,
    /// `--mount`.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: RunNetwork,
}

/// What `RUN` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellText {
    /// A command.
    Command(CommandForm),
    /// A here-document that is a program of its own, as its first line `#!` says.
    Script(String),
}

/// The network of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build has.
    Default,
    /// None.
    None,
    /// This machine's.
    Host,
}

/// `--mount` of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is shown; variables are not expanded. A secret may be a variable alone.
    pub target: Option<String>,
    /// What is shown there.
    pub kind: MountKind,
}

impl Mount {
    /// The stage or image that it takes from.
    pub fn from(&self) -> Option<&str> {
        match &self.kind {
            MountKind::Bind { from, .. } => from.as_deref(),
            _ => None,
        }
    }
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A folder that builds keep.
    Cache {
        /// By this name.
        id: String,
    },
    /// A file or folder.
    Bind {
        /// Of a stage or an image; of the context where none is named.
        from: Option<String>,
        /// Which; the whole when empty.
        source: String,
        /// What becomes of what a command writes there.
        writes: Writes,
    },
    /// An empty folder that goes with the command.
    Empty,
    /// A secret of whoever builds.
    Secret {
        /// By this name.
        id: String,
        /// The variable that holds it, where one does.
        variable: Option<String>,
        /// What is done where it was not given.
        missing: Missing,
    },
}

/// What becomes of what a command writes into a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is refused.
    Refused,
    /// It is there until the command ends.
    Forgotten,
}

/// What is done where a secret was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The command runs without it.
    Left,
    /// The build ends.
    Refused,
}
