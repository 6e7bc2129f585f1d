//! The function's variables, and what they say about the function: docker-lambda's table of settings and defaults, and the names that real Lambda sets.
//!
//! Pure: time and random numbers come in. Knows neither where a run was configured nor what is executed. A setting counts as set when it is not empty.

use std::ffi::{CString, OsStr, OsString};
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use chrono::{DateTime, Utc};

use crate::function::{Function, MemorySize, ParseTimeoutError, Timeout};
use crate::report::LogFormat;

/// `PATH` of the runtimes on real Lambda.
const LAMBDA_PATH: &str = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin";
/// `LD_LIBRARY_PATH` of the runtimes on real Lambda.
const LAMBDA_LIBRARY_PATH: &str = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib";
/// What docker gives an image that has no `PATH` of its own.
const DOCKER_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker-lambda's default.
pub const DEFAULT_MEMORY: MemorySize = MemorySize::from_mb(1536).expect("not zero");

/// Where the address of X-Ray's daemon is on real Lambda. Nothing listens there; clients only need it to be well-formed.
const XRAY_DEFAULTS: [(&str, &str); 4] = [
    ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
    ("AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1:2000"),
    ("_AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1"),
    ("_AWS_XRAY_DAEMON_PORT", "2000"),
];

/// The normalised credential names, each with the names that may give it, strongest first.
const CREDENTIALS: [(&str, [&str; 2]); 3] = [
    ("AWS_ACCESS_KEY_ID", ["AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID"]),
    ("AWS_SECRET_ACCESS_KEY", ["AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"]),
    ("AWS_SESSION_TOKEN", ["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"]),
];

/// Environment variables in a fixed order, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvVars(Vec<(String, OsString)>);

impl EnvVars {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str())
    }

    /// Sets `name`, in its old place if it has one.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((name.to_owned(), value.into())),
        }
    }

    /// Sets `name` where nothing is said of it.
    pub fn set_missing(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// Keeps those whose names are wanted.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| is_wanted(name));
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }

    /// Every variable as the kernel takes it, `NAME=value`. What the kernel cannot take (a NUL byte, from an image's config) is left out.
    pub fn to_c_strings(&self) -> Vec<CString> {
        let joined = |(name, value): &(String, OsString)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok();
        self.0.iter().filter_map(joined).collect()
    }
}

/// Where variables and settings come from, strongest first.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Given for this run by name.
    pub given: &'a [(String, OsString)],
    /// The settings and switches found in our own environment.
    pub own_settings: &'a [(String, OsString)],
    /// The image's own.
    pub image: &'a [(String, String)],
}

impl Sources<'_> {
    /// The strongest source that knows `name` decides, also when its value is empty: that means "not set".
    pub fn setting(&self, name: &str) -> Option<&OsStr> {
        let given = self.given.iter().chain(self.own_settings).map(|(other, value)| (other, value.as_os_str()));
        let image = self.image.iter().map(|(other, value)| (other, OsStr::new(value)));
        given.chain(image).find(|(other, _)| *other == name).map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.setting(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn first_text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }
}

/// Whose userland the function runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Userland<'a> {
    /// An image's: its own variables say where things are.
    Image,
    /// This machine's, with the folder of the interpreter when it lies outside the usual places.
    Host {
        /// Searched before all others.
        interpreter_dir: Option<&'a str>,
    },
}

/// Whether `AWS_SESSION_TOKEN` exists without a token: real Lambda always has one, docker-lambda's images leave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionToken {
    /// There only when one is known.
    WhenKnown,
    /// Always there, perhaps empty.
    Always,
}

/// What a function's variables are made of.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Where variables come from.
    pub sources: Sources<'a>,
    /// Whose userland it runs in.
    pub userland: Userland<'a>,
    /// The handler, when it is known outside the image.
    pub handler: Option<&'a str>,
    /// How a missing session token shows.
    pub session_token: SessionToken,
    /// The memory limit asked for; what is reported the variable says, as with docker-lambda, if it is set.
    pub memory: Option<MemorySize>,
    /// The timeout asked for; it wins over the variable.
    pub timeout: Option<Timeout>,
}

/// What differs from run to run.
#[derive(Debug, Clone, Copy)]
pub struct Unique {
    /// The time of the log stream's name.
    pub now: DateTime<Utc>,
    /// 128 random bits.
    pub random: [u64; 2],
    /// More of them, the same for all functions of a process: those that are served together belong to one account.
    pub account: u64,
}

impl Unique {
    /// For a run that starts now. The numbers name things and guard nothing: the standard library's hash keys are random enough.
    pub fn new() -> Self {
        static ACCOUNT: OnceLock<u64> = OnceLock::new();
        let random = || std::hash::RandomState::new().hash_one(0);
        Self { now: std::time::SystemTime::now().into(), random: [random(), random()], account: *ACCOUNT.get_or_init(random) }
    }
}

impl Default for Unique {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a setting cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    /// Not seconds.
    #[error("`AWS_LAMBDA_FUNCTION_TIMEOUT` is no timeout")]
    Timeout {
        /// What is wrong with it.
        source: ParseTimeoutError,
    },
    /// Not megabytes.
    #[error("`AWS_LAMBDA_FUNCTION_MEMORY_SIZE` is `{value}`: it must be whole megabytes, as in `512`")]
    Memory {
        /// Its value.
        value: String,
    },
}

/// The function and its variables, all but `AWS_LAMBDA_RUNTIME_API`.
pub fn function(setup: &Setup<'_>, unique: &Unique) -> Result<(Function, EnvVars), SettingError> {
    let function = describe(setup, unique)?;
    let mut variables = base(setup);
    set_credentials(&mut variables, setup);
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", &function.name),
        ("AWS_LAMBDA_FUNCTION_VERSION", &function.version),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &function.memory.mb().to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", &function.log_group),
        ("AWS_LAMBDA_LOG_STREAM_NAME", &function.log_stream),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", &"on-demand".to_owned()),
        ("AWS_REGION", &function.region),
        ("AWS_DEFAULT_REGION", &function.region),
    ] {
        variables.set(name, value);
    }
    if let Some(handler) = setup.handler {
        variables.set("_HANDLER", handler);
    }
    Ok((function, variables))
}

/// The variables of a plain command: the image's and those given, as docker does it.
pub fn plain(sources: &Sources<'_>) -> EnvVars {
    let mut variables = EnvVars::default();
    variables.set("PATH", DOCKER_PATH);
    for (name, value) in sources.image {
        variables.set(name, value);
    }
    for (name, value) in sources.given {
        variables.set(name, value);
    }
    variables
}

/// What is there before the function's own names are set: defaults, the image's variables, and above them what the user gave.
fn base(setup: &Setup<'_>) -> EnvVars {
    let mut variables = EnvVars::default();
    if let Userland::Host { interpreter_dir } = setup.userland {
        let path = interpreter_dir.map_or_else(|| LAMBDA_PATH.to_owned(), |dir| format!("{dir}:{LAMBDA_PATH}"));
        variables.set("PATH", path);
        variables.set("LD_LIBRARY_PATH", LAMBDA_LIBRARY_PATH);
        variables.set("LANG", "en_US.UTF-8");
    } else {
        variables.set("PATH", DOCKER_PATH);
    }
    variables.set("LAMBDA_TASK_ROOT", "/var/task");
    variables.set("LAMBDA_RUNTIME_DIR", "/var/runtime");
    // Descriptors and sockets of the machine the image was dumped from: AWS sets none of them, and none is open here.
    for (name, value) in setup.sources.image.iter().filter(|(name, _)| !name.starts_with("_LAMBDA_")) {
        variables.set(name, value);
    }
    variables.set("TZ", ":UTC");
    for (name, value) in XRAY_DEFAULTS {
        variables.set_missing(name, value);
    }
    let settings = setup.sources.own_settings.iter().filter(|(name, _)| name.starts_with("AWS_LAMBDA_"));
    for (name, value) in settings.chain(setup.sources.given) {
        variables.set(name, value);
    }
    variables
}

fn set_credentials(variables: &mut EnvVars, setup: &Setup<'_>) {
    for (name, sources) in CREDENTIALS {
        let value = setup.sources.first_text(&sources).unwrap_or_default();
        if value.is_empty() && name == "AWS_SESSION_TOKEN" && setup.session_token == SessionToken::WhenKnown {
            variables.remove(name);
        } else {
            variables.set(name, value);
        }
    }
}

fn describe(setup: &Setup<'_>, unique: &Unique) -> Result<Function, SettingError> {
    let sources = &setup.sources;
    let or = |name: &str, default: &str| sources.text(name).unwrap_or_else(|| default.to_owned());
    let name = or("AWS_LAMBDA_FUNCTION_NAME", "test");
    let version = or("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
    let region = sources.first_text(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".to_owned());
    let account_id = account_id(sources, unique);
    let arn = or("AWS_LAMBDA_FUNCTION_INVOKED_ARN", &format!("arn:aws:lambda:{region}:{account_id}:function:{name}"));
    Ok(Function {
        handler: setup.handler.unwrap_or_default().to_owned(),
        memory: memory(setup)?,
        timeout: timeout(setup)?,
        log_group: format!("/aws/lambda/{name}"),
        log_stream: log_stream(&version, unique),
        client_context: sources.text("AWS_LAMBDA_CLIENT_CONTEXT"),
        cognito_identity: sources.text("AWS_LAMBDA_COGNITO_IDENTITY"),
        trace_id: sources.text("_X_AMZN_TRACE_ID"),
        name,
        version,
        region,
        account_id,
        arn,
    })
}

/// The digits of `AWS_ACCOUNT_ID`, else twelve random ones.
fn account_id(sources: &Sources<'_>, unique: &Unique) -> String {
    let digits: String = sources.text("AWS_ACCOUNT_ID").unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() { format!("{:012}", unique.account % 900_000_000_000 + 100_000_000_000) } else { digits }
}

fn memory(setup: &Setup<'_>) -> Result<MemorySize, SettingError> {
    if let Some(value) = setup.sources.text("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") {
        return value.parse().ok().and_then(MemorySize::from_mb).ok_or(SettingError::Memory { value });
    }
    Ok(setup.memory.unwrap_or(DEFAULT_MEMORY))
}

/// The memory limit: what was asked for, else what the user says by the variable. An image's own variable and the default are reported and limit nothing,
/// as with docker-lambda.
pub fn memory_limit(setup: &Setup<'_>) -> Option<MemorySize> {
    let by_user = Sources { image: &[], ..setup.sources };
    let by_variable = || by_user.text("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?.parse().ok().and_then(MemorySize::from_mb);
    setup.memory.or_else(by_variable)
}

/// The form of the platform's part of the log. The runtimes read the same variable for theirs.
pub fn log_format(variables: &EnvVars) -> LogFormat {
    let text = |name| variables.get(name).and_then(OsStr::to_str);
    LogFormat::from_settings(text("AWS_LAMBDA_LOG_FORMAT"), text("AWS_LAMBDA_SYSTEM_LOG_LEVEL"))
}

fn timeout(setup: &Setup<'_>) -> Result<Timeout, SettingError> {
    const DEFAULT_SECONDS: u64 = 300;
    match (setup.timeout, setup.sources.text("AWS_LAMBDA_FUNCTION_TIMEOUT")) {
        (Some(timeout), _) => Ok(timeout),
        (None, Some(value)) => value.parse().map_err(|source| SettingError::Timeout { source }),
        (None, None) => Ok(Timeout::from_secs(DEFAULT_SECONDS).expect("five minutes are less than a year")),
    }
}

/// `YYYY/MM/DD/[version]` and 32 hex digits.
pub fn log_stream(version: &str, unique: &Unique) -> String {
    let [high, low] = unique.random;
    format!("{}/[{version}]{high:016x}{low:016x}", unique.now.format("%Y/%m/%d"))
}

#[cfg(test)]
mod tests;
