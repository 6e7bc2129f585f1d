//! Functions for tests and programs in Rust: runs one in this process, without the `undocked` program.
//!
//! ```no_run
//! use runner::embedded::LambdaFunction;
//!
//! let greet = LambdaFunction::new("python3.12").code("src").handler("app.handler").memory_mb(256);
//! let answer = greet.run(br#"{"name": "you"}"#)?;
//! assert_eq!(answer.result(), Ok(&br#"{"greeting": "hello you"}"#[..]));
//! # Ok::<(), runner::exit_code::Failure>(())
//! ```
//!
//! It is what `undocked run` does, with the same image cache, sandbox and messages. Each run has a fresh environment; nothing is left when it is over. Runs may
//! go on at once, each in a thread of its own.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::cli::env::OwnEnvironment;
use crate::cli::usage::Ended;
use crate::cli::{self, Command};
use crate::exit_code::Failure;
use crate::lambda::{Outcome, ReportFigures};
use crate::mode::call::{Called, call};

/// A function: what runs, in which image, with which code. Nothing happens until it is [run](Self::run).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaFunction {
    options: Vec<OsString>,
    image: OsString,
    handler: Option<OsString>,
}

/// What came of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the function answered, or its error (JSON with `errorType`, `errorMessage`): as Lambda gives it to a client.
    pub payload: Vec<u8>,
    /// Whether the function succeeded.
    pub status: AnswerStatus,
    /// Everything that was logged, from START to REPORT.
    pub log: String,
    /// The figures of the REPORT line.
    pub figures: Option<ReportFigures>,
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerStatus {
    /// With what the function answered.
    Success,
    /// With an error of the function: it raised one, ran past its timeout, or crashed.
    FunctionError,
}

impl Answer {
    /// What the function answered; `Err` with its error if it failed.
    pub fn result(&self) -> Result<&[u8], &[u8]> {
        match self.status {
            AnswerStatus::Success => Ok(&self.payload),
            AnswerStatus::FunctionError => Err(&self.payload),
        }
    }
}

impl LambdaFunction {
    /// A function in `image`: a runtime such as `python3.12`, a reference, `oci:DIR:NAME`, or `host` for this machine's userland.
    pub fn new(image: impl AsRef<OsStr>) -> Self {
        Self { options: Vec::new(), image: image.as_ref().to_owned(), handler: None }
    }

    /// The handler; the image's own when not given.
    #[must_use]
    pub fn handler(mut self, handler: impl AsRef<OsStr>) -> Self {
        self.handler = Some(handler.as_ref().to_owned());
        self
    }

    /// The folder shown as `/var/task`, for reading.
    #[must_use]
    pub fn code(self, folder: impl AsRef<Path>) -> Self {
        let mut volume = folder.as_ref().as_os_str().to_owned();
        volume.push(":/var/task:ro");
        self.option("--volume", volume)
    }

    /// A folder shown as `/opt`; several are merged in order.
    #[must_use]
    pub fn layer(self, folder: impl AsRef<Path>) -> Self {
        self.option("--layer", folder.as_ref())
    }

    /// One of the function's variables.
    #[must_use]
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let mut pair = name.as_ref().to_owned();
        pair.push("=");
        pair.push(value.as_ref());
        self.option("--env", pair)
    }

    /// Its memory in megabytes.
    #[must_use]
    pub fn memory_mb(self, megabytes: u32) -> Self {
        self.option("--memory", format!("{megabytes}m"))
    }

    /// Its timeout.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.option("--timeout", timeout.as_secs_f64().to_string())
    }

    /// Any other option of `undocked run` that takes a value, such as `--network`.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.options.extend([OsString::from(name), value.as_ref().to_owned()]);
        self
    }

    /// Invokes the function with an event, in a fresh environment; the image is pulled if the cache lacks it. Blocks until nothing of it is left.
    ///
    /// # Errors
    ///
    /// What was asked for makes no sense, or could not be done. A function that fails is an [`Answer`].
    pub fn run(&self, event: &[u8]) -> Result<Answer, Failure> {
        let line = ["undocked", "run", "--quiet"].map(OsString::from).into_iter().chain(self.options.iter().cloned());
        let line = line.chain([self.image.clone()]).chain(self.handler.clone());
        let config = match cli::read(line, &OwnEnvironment::of_process()) {
            Ok(Command::Run(config)) => config,
            Err(Ended::Wrong(failure)) => return Err(failure),
            Ok(_) | Err(Ended::Text(_) | Ended::Said { .. }) => {
                return Err(Failure::usage("these options ask for something else than one run"));
            }
        };
        answer(call(&config, &Bytes::copy_from_slice(event))?)
    }
}

fn answer(Called { ran, log }: Called) -> Result<Answer, Failure> {
    let (payload, status) = match ran.outcome {
        Outcome::Success { payload } => (payload, AnswerStatus::Success),
        Outcome::FunctionError(error) => (error.payload, AnswerStatus::FunctionError),
        Outcome::Interrupted { signal } => return Err(Failure::interrupted(signal)),
    };
    Ok(Answer { payload: payload.to_vec(), status, log: String::from_utf8_lossy(&log).into_owned(), figures: ran.figures })
}
