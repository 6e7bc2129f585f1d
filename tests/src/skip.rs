//! A test that cannot run says why and is counted; where everything must be there, it fails instead.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

/// Why a test does not run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Something that can be installed or switched on: where tests must run (`CI=true`, `REQUIRE_USERNS=1`) this is a failure.
    Providable,
    /// A large tool, which is not worth being installed wherever tests run: the test runs where it is.
    Large,
    /// The test is about another kind of user (root or not): it runs in the other half of the suite.
    OtherUser,
    /// The test is about a part of the kernel that this one was built without; nothing that can be installed changes that.
    OtherKernel,
    /// The test asks for something that the isolation it is run in does not have: it runs in the best one.
    OtherIsolation,
}

/// Counts the running test as skipped. The caller returns.
///
/// # Panics
/// When nothing that can be provided may be missing.
pub fn skip(lack: Lack, reason: &str) {
    let name = thread::current().name().unwrap_or("?").to_owned();
    let required = |key: &str, value: &str| env::var(key).is_ok_and(|found| found == value);
    let strict = required("CI", "true") || required("REQUIRE_USERNS", "1");
    assert!(!(strict && lack == Lack::Providable), "{name} cannot be skipped here: {reason}");
    println!("skipped: {name}: {reason}");
    if let Some(path) = env::var_os("UNDOCKED_TESTS_SKIPPED") {
        let line = format!("{name}: {reason}\n");
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of skipped tests can be written");
    }
}

/// Skips the running test for something that could be provided.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip::skip($crate::skip::Lack::Providable, &format!($($reason)*));
        return;
    }};
}

/// Skips the running test since it is about another kind of user.
#[macro_export]
macro_rules! skip_for_this_user {
    ($($reason:tt)*) => {{
        $crate::skip::skip($crate::skip::Lack::OtherUser, &format!($($reason)*));
        return;
    }};
}

/// Skips the running test since this kernel was built without what it is about.
#[macro_export]
macro_rules! skip_for_this_kernel {
    ($($reason:tt)*) => {{
        $crate::skip::skip($crate::skip::Lack::OtherKernel, &format!($($reason)*));
        return;
    }};
}

/// Skips the running test where it is run in one of these isolations.
#[macro_export]
macro_rules! skip_in_isolation {
    ([$($isolation:literal),+], $($reason:tt)*) => {{
        if $crate::place::isolation().is_some_and(|own| [$($isolation),+].contains(&own.as_str())) {
            $crate::skip::skip($crate::skip::Lack::OtherIsolation, &format!($($reason)*));
            return;
        }
    }};
}

/// Whether we are root, for whom some steps differ.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a program is to be found and starts.
pub fn has_program(program: &str) -> bool {
    Command::new(program).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Whether the kernel lets us make the namespaces a sandbox needs; if not, the running test is counted as skipped.
pub fn sandbox_can_run() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let can = *ANSWER.get_or_init(|| {
        let tried = Command::new("unshare")
            .args(["--user", "--map-current-user", "--mount", "--pid", "--fork", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    });
    if !can {
        skip(Lack::Providable, "this machine grants no user namespaces");
    }
    can
}
