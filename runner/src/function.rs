//! What a Lambda function is, apart from its code: name, handler, memory, timeout, ARN.
//!
//! Pure values, parsed once at the edge. Knows nothing of where they come from nor of how a function is run.

pub mod events;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where the Runtime API is on a network of the sandbox's own: where docker-lambda's images expect it.
pub const INNER_API_PORT: u16 = 9001;

/// One function, as its configuration in AWS would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The function's name (`AWS_LAMBDA_FUNCTION_NAME`).
    pub name: String,
    /// The version that runs, `$LATEST` or a number.
    pub version: String,
    /// The name of the handler in the customer's code (`_HANDLER`).
    pub handler: String,
    /// The memory the function is given, and billed for.
    pub memory: MemorySize,
    /// How long one invocation may take.
    pub timeout: Timeout,
    /// The AWS region it believes to be in.
    pub region: String,
    /// The twelve-digit account it believes to belong to.
    pub account_id: String,
    /// The ARN it is invoked by; sent with every event.
    pub arn: String,
    /// The log group named in its variables.
    pub log_group: String,
    /// The log stream named in its variables.
    pub log_stream: String,
    /// Client context sent with the event: the JSON text itself.
    pub client_context: Option<String>,
    /// Cognito identity sent with the event: the JSON text itself.
    pub cognito_identity: Option<String>,
    /// The trace every invocation belongs to; each gets a fresh one if there is none.
    pub trace_id: Option<String>,
}

impl Function {
    /// Its ARN with the version or alias that was named, if one was.
    pub fn arn_with(&self, qualifier: Option<&str>) -> String {
        qualifier.map_or_else(|| self.arn.clone(), |qualifier| format!("{}:{qualifier}", self.arn))
    }
}

/// An amount of memory in whole megabytes (2^20 bytes), at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    mb: u32,
}

/// Why a text is not an amount of memory, or of space.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseMemorySizeError {
    /// Not a number with an optional unit.
    #[error("`{0}` is not a size: give bytes, or a number with `k`, `m` or `g`, as in `512m`")]
    Form(String),
    /// Less than one megabyte.
    #[error("`{0}` is less than one megabyte: a number alone is bytes, megabytes are written `64m`")]
    TooSmall(String),
    /// More than this program can count.
    #[error("`{0}` is more than can be given")]
    TooLarge(String),
}

impl MemorySize {
    /// So many megabytes; `None` for zero.
    pub const fn from_mb(mb: u32) -> Option<Self> {
        if mb > 0 { Some(Self { mb }) } else { None }
    }

    /// Whole megabytes.
    pub fn mb(self) -> u32 {
        self.mb
    }

    /// The same in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.mb) << 20
    }
}

/// In the form of [`bytes_of`], in whole megabytes.
impl FromStr for MemorySize {
    type Err = ParseMemorySizeError;

    fn from_str(text: &str) -> Result<Self, ParseMemorySizeError> {
        match u32::try_from(bytes_of(text)? >> 20) {
            Ok(0) => Err(ParseMemorySizeError::TooSmall(text.to_owned())),
            Ok(mb) => Ok(Self { mb }),
            Err(_) => Err(ParseMemorySizeError::TooLarge(text.to_owned())),
        }
    }
}

/// How many bytes a text means. Docker's form: bytes, or a decimal number with a unit of any case (`512m`, `1.5G`, `1g`, `1GiB`), units being powers of 1024.
pub fn bytes_of(text: &str) -> Result<u64, ParseMemorySizeError> {
    let form = || ParseMemorySizeError::Form(text.to_owned());
    let too_large = || ParseMemorySizeError::TooLarge(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let shift = unit_shift(unit.strip_prefix(' ').unwrap_or(unit)).ok_or_else(form)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(form());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let fraction: f64 = format!("0.{fraction}").parse().map_err(|_| form())?;
    let bytes = (u128::from(whole) << shift) + (fraction * (1_u64 << shift) as f64) as u128;
    u64::try_from(bytes).map_err(|_| too_large())
}

/// Docker's units: nothing or `b` for bytes; `k`, `m`, `g`, `t`, each alone, with `b` or with `ib`.
fn unit_shift(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, rest) = unit.split_at_checked(1).unwrap_or((&unit, ""));
    let shift = match prefix {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let rest_fits = if shift == 0 { rest.is_empty() } else { matches!(rest, "" | "b" | "ib") };
    rest_fits.then_some(shift)
}

/// Whole megabytes, as Lambda writes them: `128 MB`.
impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB", self.mb)
    }
}

/// How long one invocation may take. Zero is allowed: every invocation times out, as with docker-lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timeout {
    limit: Duration,
}

/// Why a text is not a timeout.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseTimeoutError {
    /// Not a decimal number.
    #[error("`{0}` is not a timeout: give seconds, as in `3` or `1.5`")]
    Form(String),
    /// More than a year.
    #[error("`{0}` seconds are longer than a year")]
    TooLong(String),
}

impl Timeout {
    /// Far above Lambda's 900 s, and far below where an instant plus a timeout overflows.
    const MAX_SECONDS: u64 = 365 * 24 * 3600;

    /// So many whole seconds; `None` for more than a year.
    pub fn from_secs(seconds: u64) -> Option<Self> {
        (seconds <= Self::MAX_SECONDS).then_some(Self { limit: Duration::from_secs(seconds) })
    }

    /// The time as a duration.
    pub fn limit(self) -> Duration {
        self.limit
    }
}

/// Seconds, whole or decimal (`3`, `1.5`, `.5`).
impl FromStr for Timeout {
    type Err = ParseTimeoutError;

    fn from_str(text: &str) -> Result<Self, ParseTimeoutError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits_only = format!("{whole}{fraction}");
        if !is_digits(&digits_only) {
            return Err(ParseTimeoutError::Form(text.to_owned()));
        }
        let too_long = || ParseTimeoutError::TooLong(text.to_owned());
        let seconds: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
        let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let nanos: u32 = nanos.parse().map_err(|_| ParseTimeoutError::Form(text.to_owned()))?;
        let limit = Duration::new(seconds, nanos);
        if limit > Duration::from_secs(Self::MAX_SECONDS) { Err(too_long()) } else { Ok(Self { limit }) }
    }
}

/// Seconds with two decimals, as Lambda's messages have them: `1.00`.
impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.limit.as_secs_f64())
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What an entrypoint is that shows no sign of Lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownEntrypoint {
    /// A runtime client: `undocked run` runs functions.
    Function,
    /// A program like any other: under docker's name all kinds of images are run.
    Command,
}

#[cfg(test)]
impl Function {
    /// A function for tests, of version `$LATEST` with 128 MB.
    pub(crate) fn sample(timeout: &str) -> Self {
        Self {
            name: "fn".to_owned(),
            version: "$LATEST".to_owned(),
            handler: "app.handler".to_owned(),
            memory: MemorySize { mb: 128 },
            timeout: timeout.parse().unwrap(),
            region: "us-east-1".to_owned(),
            account_id: "123456789012".to_owned(),
            arn: "arn:aws:lambda:us-east-1:123456789012:function:fn".to_owned(),
            log_group: "/aws/lambda/fn".to_owned(),
            log_stream: "2024/04/08/[$LATEST]00000000000000000000000000000000".to_owned(),
            client_context: None,
            cognito_identity: None,
            trace_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes_in_dockers_forms() {
        for (text, mb) in [
            ("512m", 512),
            ("512M", 512),
            ("512mb", 512),
            ("512MiB", 512),
            ("512 m", 512),
            ("1g", 1024),
            ("1.5G", 1536),
            ("1.5", 0),
            ("0.5g", 512),
            ("1073741824", 1024),
            ("1073741824b", 1024),
            ("131072k", 128),
            ("1t", 1 << 20),
            ("1048575", 0),
            ("1048576", 1),
            ("2097151", 1),
        ] {
            let parsed: Result<MemorySize, _> = text.parse();
            match mb {
                0 => assert_eq!(parsed, Err(ParseMemorySizeError::TooSmall(text.to_owned()))),
                mb => assert_eq!(parsed.map(MemorySize::mb), Ok(mb), "{text}"),
            }
        }
    }

    #[test]
    fn no_memory_size() {
        for text in
            ["", "m", "abc", "-1", "1.", ".5g", "1.2.3g", "1x", "1mm", "1bb", "1bi", "1  m", " 1m", "1m ", "1e3", "１g", "0x10", "1é"]
        {
            assert_eq!(text.parse::<MemorySize>(), Err(ParseMemorySizeError::Form(text.to_owned())), "{text:?}");
        }
        for text in ["99999999999999999999", "18446744073709551615t", "4294967296m"] {
            assert_eq!(text.parse::<MemorySize>(), Err(ParseMemorySizeError::TooLarge(text.to_owned())), "{text:?}");
        }
        assert_eq!(MemorySize::from_mb(0), None);
    }

    #[test]
    fn sizes_in_bytes() {
        for (text, bytes) in [("0", 0), ("150000", 150_000), ("70k", 71_680), ("1.5K", 1536), ("10g", 10 << 30), ("0m", 0)] {
            assert_eq!(bytes_of(text), Ok(bytes), "{text}");
        }
        assert_eq!(bytes_of("16777216t"), Err(ParseMemorySizeError::TooLarge("16777216t".to_owned())));
    }

    #[test]
    fn memory_size_in_bytes_and_text() {
        let size: MemorySize = "128m".parse().unwrap();
        assert_eq!((size.bytes(), size.to_string()), (134_217_728, "128 MB".to_owned()));
    }

    #[test]
    fn timeouts() {
        for (text, millis, shown) in [
            ("3", 3000, "3.00"),
            ("1.5", 1500, "1.50"),
            ("0", 0, "0.00"),
            (".25", 250, "0.25"),
            ("300.", 300_000, "300.00"),
            ("1.0000000009", 1000, "1.00"),
        ] {
            let timeout: Timeout = text.parse().unwrap();
            assert_eq!((timeout.limit(), timeout.to_string().as_str()), (Duration::from_millis(millis), shown), "{text}");
        }
    }

    #[test]
    fn no_timeouts() {
        for text in ["", ".", "abc", "-1", "+1", "1,5", "1s", "1e3", "1.2.3", "NaN", "inf", " 3"] {
            assert_eq!(text.parse::<Timeout>(), Err(ParseTimeoutError::Form(text.to_owned())), "{text:?}");
        }
        for text in ["31536001", "31536000.1", "99999999999999999999999"] {
            assert_eq!(text.parse::<Timeout>(), Err(ParseTimeoutError::TooLong(text.to_owned())), "{text:?}");
        }
        assert_eq!(Timeout::from_secs(31_536_000).map(Timeout::limit), Some(Duration::from_secs(31_536_000)));
        assert_eq!(Timeout::from_secs(31_536_001), None);
    }
}
