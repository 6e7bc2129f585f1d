//! Single executions in real sandboxes on the host's own userland, with a runtime in bash. Skipped, with a word, where the kernel grants no user
//! namespace or there is no bash.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::connections::ApiPort;
use super::variables::EnvVars;
use super::{Blueprint, Ran, Run, run_once};
use crate::function::Function;
use crate::lambda::{Outcome, PlatformError, RuntimeEnd};
use crate::report::{CarriageReturns, Color, Report};
use crate::sandbox::network::Networking;
use crate::sandbox::{Command, FirstProcess, HostRoot, InnerIdentity, Input, Launcher, Output, RootSource, SandboxRequest, Stdio};

/// A Runtime API client: `call METHOD PATH BODY` prints the answer, `next` sets `$id`.
const CLIENT: &str = r#"
call() {
  exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API#*:}"
  printf '%s /2018-06-01/runtime/%s HTTP/1.1\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%s' "$1" "$2" "${#3}" "$3" >&3
  cat <&3
}
next() {
  event=$(call GET invocation/next)
  id=$(sed -n 's/^Lambda-Runtime-Aws-Request-Id: \([0-9a-f-]*\).*/\1/p' <<<"$event")
}
post() { call POST "invocation/$id/$1" "$2" >/dev/null; }
"#;

fn supported() -> bool {
    let granted = std::process::Command::new("unshare").args(["-U", "bash", "-c", "true"]).status().is_ok_and(|status| status.success());
    if !granted {
        assert!(std::env::var_os("REQUIRE_USERNS").is_none(), "user namespaces are required and not granted");
        eprintln!("skipped: this machine grants no user namespace or has no bash");
    }
    granted
}

fn host_root(files: &[(&str, &str, u32)]) -> HostRoot {
    let files = files.iter().map(|(path, text, mode)| (path.into(), text.as_bytes().to_vec(), *mode)).collect();
    let mut root = HostRoot { files, ..HostRoot::default() };
    for name in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        match fs::read_link(name) {
            Ok(target) => root.symlinks.push((name.into(), target)),
            Err(_) if Path::new(name).is_dir() => root.folders.push(name.into()),
            Err(_) => {}
        }
    }
    root
}

/// A log that tells when it was written to.
#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<Vec<u8>>, Notify)>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap()).into_owned()
    }

    async fn written(&self) {
        self.0.1.notified().await;
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap().extend(bytes);
        self.0.1.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came of a run, and its log with `<id>` for the request id.
struct Seen {
    ran: Ran,
    log: String,
}

impl Seen {
    fn id(&self) -> &str {
        let start = self.log.find("START RequestId: ").unwrap() + "START RequestId: ".len();
        &self.log[start..start + 36]
    }

    /// The log with `<id>` for the id and without figures, one line each.
    fn lines(&self) -> Vec<String> {
        let log = self.log.replace(self.id(), "<id>");
        log.lines()
            .map(|line| {
                if line.starts_with("REPORT") {
                    line.rsplit_once("Status: ").map_or("REPORT", |(_, status)| status).to_owned()
                } else {
                    line.to_owned()
                }
            })
            .collect()
    }

    fn success(&self) -> &str {
        match &self.ran.outcome {
            Outcome::Success { payload } => std::str::from_utf8(payload).unwrap(),
            other => panic!("{other:?}\n{}", self.log),
        }
    }

    fn error(&self) -> String {
        match &self.ran.outcome {
            Outcome::FunctionError(error) => String::from_utf8_lossy(&error.payload).replace(self.id(), "<id>"),
            other => panic!("{other:?}\n{}", self.log),
        }
    }
}

fn platform_body(error: &PlatformError) -> String {
    format!(r#"{{"errorType":"{}","errorMessage":"RequestId: <id> Error: {}"}}"#, error.error_type(), error.message())
}

/// How many processes `sleep SECONDS` this machine has.
fn sleepers(seconds: &str) -> usize {
    let line = format!("sleep\0{seconds}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|found| found == line.as_bytes())).count()
}

fn blueprint(command: Command) -> Blueprint {
    let policy = seccomp::policy::Policy::lambda();
    let filter = seccomp::filter::Filter::compile(&policy, seccomp::numbers::Architecture::HOST).unwrap();
    let files = [("/opt/plain", "no program", 0o644), ("/opt/badformat", "no program", 0o755), ("/opt/noloader", "#!/no/such\n", 0o755)];
    let mut variables = EnvVars::default();
    variables.set("PATH", "/usr/bin:/bin");
    let request = SandboxRequest {
        isolation: crate::sandbox::IsolationChoice::Auto,
        scratch: None,
        root: RootSource::Host(host_root(&files)),
        command,
        environment: Vec::new(),
        working_dir: "/".into(),
        volumes: Vec::new(),
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: crate::sandbox::IdMap::Single,
        terminal: None,
        hostname: "sandbox".into(),
        tmp_size_bytes: 1 << 20,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: crate::sandbox::Limits::default(),
        stdio: Stdio { input: Input::Null, output: Output::Pipe, error: Output::Joined },
        network: crate::sandbox::Network::Host,
        listen_inside: None,
        first_process: FirstProcess::Init,
        filter: Some(Arc::new(filter)),
    };
    Blueprint { request, variables, extensions: Vec::new() }
}

async fn run_with(command: Command, timeout: &str, report: &mut Report, stop: impl Future<Output = i32>) -> Ran {
    let launcher = Launcher::start().unwrap();
    let function = Function::sample(timeout);
    let networking = Networking::plain(crate::sandbox::Network::Host).into();
    let run = Run { function: &function, event: Bytes::from_static(b"{\"event\": 1}"), networking, api_port: ApiPort::Any, visits: None };
    run_once(&launcher, blueprint(command), run, report, stop).await.unwrap()
}

async fn run_command(command: Command, timeout: &str, log: Shared, stop: impl Future<Output = i32>) -> Seen {
    let mut report = Report::to_writer(log.clone(), Color::Plain, CarriageReturns::ToLineFeeds);
    let ran = run_with(command, timeout, &mut report, stop).await;
    // With a paused clock the report gives up its reader at once.
    while ran.figures.is_some() && !log.text().contains("REPORT RequestId: ") {
        log.written().await;
    }
    Seen { ran, log: log.text() }
}

async fn run(script: &str, timeout: &str) -> Seen {
    let line = ["bash", "-c", &format!("{CLIENT}\n{script}")].map(str::to_owned);
    run_command(Command::Line(line.to_vec()), timeout, Shared::default(), std::future::pending()).await
}

#[tokio::test]
async fn answers_between_start_and_end() {
    if !supported() {
        return;
    }
    let seen = run(r#"echo init; next; echo "out $(tail -n1 <<<"$event")"; printf 'a\rb\r\n' >&2; post response '{"a": 1}'; printf last; next; echo never"#, "5").await;
    assert_eq!(seen.success(), "{\"a\": 1}");
    assert_eq!(
        seen.lines(),
        ["init", "START RequestId: <id> Version: $LATEST", "out {\"event\": 1}", "a", "b", "", "last", "END RequestId: <id>", "REPORT"]
    );
    let figures = seen.ran.figures.unwrap();
    assert!(figures.init.is_some() && figures.max_memory_used_mb > 0, "{figures:?}");
    assert!(seen.log.contains("\tInit Duration: "), "{}", seen.log);
}

#[tokio::test]
async fn posted_errors() {
    if !supported() {
        return;
    }
    let seen = run("next; post error 'not json'; next", "5").await;
    assert_eq!(seen.error(), "not json");
    assert_eq!(seen.lines(), ["START RequestId: <id> Version: $LATEST", "END RequestId: <id>", "REPORT"]);
    let seen = run("echo before; call POST init/error '{\"errorType\":\"Runtime.X\"}' >/dev/null; echo after; exit 1", "5").await;
    assert_eq!(seen.error(), "{\"errorType\":\"Runtime.X\"}");
    assert_eq!(
        seen.lines(),
        ["before", "START RequestId: <id> Version: $LATEST", "after", "END RequestId: <id>", "error\tError Type: Runtime.Unknown"]
    );
}

#[tokio::test]
async fn ends_of_the_runtime() {
    if !supported() {
        return;
    }
    let signaled = |signal| RuntimeEnd::Signaled { signal, core_dumped: false };
    for (script, end) in [
        ("next; echo last; exit 7", RuntimeEnd::Exited(7)),
        ("next; echo last; exit 0", RuntimeEnd::Exited(0)),
        ("echo last; exit 7", RuntimeEnd::Exited(7)),
        ("next; echo last; kill -KILL $$", signaled(9)),
        ("ulimit -c 0; next; echo last; kill -SEGV $$", signaled(11)),
    ] {
        let error = PlatformError::Exited(end);
        let seen = run(script, "60").await;
        assert_eq!(seen.error(), platform_body(&error));
        let mut lines = seen.lines();
        lines.sort_by_key(|line| line != "last");
        let failed = format!("RequestId: <id> Error: {}", error.message());
        let rest = [
            "START RequestId: <id> Version: $LATEST",
            &failed,
            "Runtime.ExitError",
            "END RequestId: <id>",
            "error\tError Type: Runtime.ExitError",
        ];
        assert_eq!(lines, [&["last"], &rest[..]].concat());
    }
    // An answer stands.
    assert_eq!(run("next; post response 1; exit 3", "60").await.success(), "1");
}

#[tokio::test]
async fn killed_at_the_deadline() {
    if !supported() {
        return;
    }
    let begin = Instant::now();
    let seen = run("next; echo begun; sleep 77.5 & sleep 77.5", "0.3").await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(seen.error(), platform_body(&PlatformError::TimedOut("0.3".parse().unwrap())));
    let lines = seen.lines();
    assert!(lines[2].ends_with("Z <id> Task timed out after 0.30 seconds"), "{lines:?}");
    assert_eq!((lines[1].as_str(), &lines[3..]), ("begun", &["END RequestId: <id>".to_owned(), "timeout".to_owned()][..]));
    assert!(seen.log.contains("\tDuration: 300.00 ms\t"), "{}", seen.log);
    // An answer stands, though the runtime does not come back.
    let seen = run("next; post response 1; sleep 77.5", "0.3").await;
    assert_eq!((seen.success(), seen.lines().last().unwrap().as_str()), ("1", "timeout"));
    assert_eq!(sleepers("77.5"), 0);
}

#[tokio::test]
async fn floods_and_busy_loops_end_at_the_deadline() {
    if !supported() {
        return;
    }
    let seen = run("next; tr '\\0' 'x' </dev/zero", "0.3").await;
    assert!(seen.error().contains("Sandbox.Timedout"));
    let seen = run("next; while :; do next; done", "0.3").await;
    assert!(seen.error().contains("Sandbox.Timedout"));
}

#[tokio::test]
async fn bootstraps_that_cannot_be_started() {
    if !supported() {
        return;
    }
    let first_of =
        |paths: &[&str]| Command::FirstOf { candidates: paths.iter().map(|&path| path.to_owned()).collect(), arguments: Vec::new() };
    for (candidates, message) in [
        (
            &["/var/runtime/bootstrap", "/var/task/bootstrap", "/opt/bootstrap"][..],
            "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]",
        ),
        (&["/opt/plain"], "fork/exec /opt/plain: permission denied"),
        (&["/opt/badformat"], "fork/exec /opt/badformat: exec format error"),
        (&["/opt/noloader"], "fork/exec /opt/noloader: no such file or directory"),
    ] {
        let seen = run_command(first_of(candidates), "5", Shared::default(), std::future::pending()).await;
        assert_eq!(
            seen.error(),
            format!(r#"{{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: <id> Error: {message}"}}"#)
        );
        let failed = format!("RequestId: <id> Error: {message}");
        let lines = [
            "START RequestId: <id> Version: $LATEST",
            &failed,
            "Runtime.InvalidEntrypoint",
            "END RequestId: <id>",
            "error\tError Type: Runtime.InvalidEntrypoint",
        ];
        assert_eq!(seen.lines(), lines);
    }
}

#[tokio::test]
async fn interrupted() {
    if !supported() {
        return;
    }
    let line = ["bash", "-c", "sleep 78.5 & echo begun; sleep 78.5"].map(str::to_owned);
    let log = Shared::default();
    let stop = log.clone();
    let stop = async move {
        stop.written().await;
        15
    };
    let seen = run_command(Command::Line(line.to_vec()), "60", log, stop).await;
    assert_eq!(seen.ran.outcome, Outcome::Interrupted { signal: 15 });
    assert_eq!((seen.ran.figures, seen.log.as_str()), (None, "begun\n"));
    assert_eq!(sleepers("78.5"), 0);
}

/// With the clock paused, ten seconds and the timeout pass as soon as everybody waits.
#[tokio::test(start_paused = true)]
async fn slow_initialisation_is_tried_again_on_the_functions_time() {
    if !supported() {
        return;
    }
    let seen = run("sleep 79.5", "3").await;
    assert_eq!(seen.error(), platform_body(&PlatformError::TimedOut("3".parse().unwrap())));
    let lines = seen.lines();
    assert!(lines[0].starts_with("INIT_REPORT Init Duration: 100") && lines[0].ends_with(" ms\tPhase: init\tStatus: timeout"), "{lines:?}");
    assert_eq!(lines[1], "START RequestId: <id> Version: $LATEST");
    assert!(
        lines[2].starts_with("INIT_REPORT Init Duration: 300") && lines[2].ends_with(" ms\tPhase: invoke\tStatus: timeout"),
        "{lines:?}"
    );
    assert!(lines[3].ends_with("Task timed out after 3.00 seconds"), "{lines:?}");
    assert_eq!(lines[4..], ["END RequestId: <id>", "timeout"]);
    assert_eq!(sleepers("79.5"), 0);
}

/// A log nobody reads.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_log_nobody_reads_does_not_hold_up_the_answer() {
    if !supported() {
        return;
    }
    let (_never, stuck) = std::sync::mpsc::channel();
    let line = ["bash", "-c", &format!("{CLIENT}\nnext; echo output; post response 1; next")].map(str::to_owned);
    let mut report = Report::to_writer(Stuck(stuck), Color::Plain, CarriageReturns::ToLineFeeds);
    let ran = run_with(Command::Line(line.to_vec()), "60", &mut report, std::future::pending()).await;
    assert_eq!(ran.outcome, Outcome::Success { payload: Bytes::from_static(b"1") });
}
