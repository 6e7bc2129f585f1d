//! Runs inside the sandbox, as bootstrap, entry point or plain program, and does what a script of one command a line tells it.
//!
//! Standard library only and linked statically (`build.rs`), so that it runs in a root file system that has nothing else. What it sees is
//! collected as notes: a JSON object that `respond-notes` answers the invocation with and `print-notes` writes to standard output.
//!
//! The script is `/opt/scripts/NAME` for a program of that name (an extension), else `/var/task/script`, else `/opt/script`, else `/script`; or the words after `--line`, commands parted by ` ; `.
//! The command `obey` takes what follows from the events. An argument `--answer` needs no script: it answers every event with `null`, as fast as it can.

#[path = "probe/bombs.rs"]
mod bombs;
#[path = "probe/connections.rs"]
mod connections;
#[path = "probe/http.rs"]
mod http;
#[path = "probe/notes.rs"]
mod notes;
#[path = "probe/relay.rs"]
mod relay;
#[path = "probe/system.rs"]
mod system;

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, io, thread};

use http::Client;
use notes::{Notes, json_text};

const NEXT: &str = "/2018-06-01/runtime/invocation/next";

/// What a script can change while it runs.
struct Probe {
    api: Client,
    notes: Notes,
    request_id: String,
    /// The identifier of the extension that we registered, `{extension}` in headers.
    extension: String,
    event: Vec<u8>,
    event_headers: Vec<(String, String)>,
    /// Headers for the next request only.
    headers: Vec<(String, String)>,
    /// Memory taken by `touch-memory`, kept until the end.
    ballast: Vec<Vec<u8>>,
    /// Whether we run the words after `--line`: then ` ;; ` parts the commands of a process that we spawn.
    on_a_line: bool,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let mut probe = Probe {
        api: Client::new(env::var("AWS_LAMBDA_RUNTIME_API").unwrap_or_default()),
        notes: Notes::default(),
        request_id: String::new(),
        extension: String::new(),
        event: Vec::new(),
        event_headers: Vec::new(),
        headers: Vec::new(),
        ballast: Vec::new(),
        on_a_line: arguments.get(1).is_some_and(|first| first == "--line"),
    };
    match arguments.get(1).map(String::as_str) {
        Some("--line") => arguments[2..].join(" ").split(" ; ").for_each(|line| probe.run(line)),
        Some("--answer") => probe.answer_all(),
        _ => {
            // Where there is no root of its own the task lies elsewhere.
            let task = env::var("LAMBDA_TASK_ROOT").unwrap_or_else(|_| "/var/task".to_owned());
            let name = arguments.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            let own = format!("/opt/scripts/{name}");
            let places = [own, format!("{task}/script"), "/var/task/script".to_owned(), "/opt/script".to_owned(), "/script".to_owned()];
            let script = places.iter().find_map(|path| fs::read_to_string(path).ok());
            script.unwrap_or_else(|| give_up("no script")).lines().for_each(|line| probe.run(line));
        }
    }
}

fn give_up(why: &str) -> ! {
    eprintln!("probe: {why}");
    exit(99)
}

/// `\n`, `\r`, `\t`, `\e`, `\\` and `\xHH` as in a C string; all else stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (code, skip) = match tail {
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'e', ..] => (0x1b, 1),
            [b'x', high, low, ..] => {
                let digits = [*high, *low];
                let text = str::from_utf8(&digits).unwrap_or("");
                (u8::from_str_radix(text, 16).unwrap_or_else(|_| give_up("bad \\x")), 3)
            }
            [other, ..] => (*other, 1),
            [] => (b'\\', 0),
        };
        bytes.push(code);
        rest = &tail[skip..];
    }
    bytes
}

fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse::<i64>().map(|n| n as u64).or_else(|_| text.parse()),
    };
    parsed.unwrap_or_else(|_| give_up(&format!("not a number: {text}")))
}

fn outcome<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => system::errno_name(&error),
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

impl Probe {
    fn run(&mut self, line: &str) {
        let line = line.trim_start();
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "" | "#" => {}
            "obey" => self.obey(),
            "next" | "respond" | "respond-event" | "respond-notes" | "respond-size" | "error" | "init-error" | "http" | "http-size"
            | "header" | "note-event" | "relay" => self.api_command(command, rest),
            "out" | "err" | "frame" | "out-fill" | "out-lines" | "close-out" | "print-notes" => self.stream_command(command, rest),
            "sleep" | "exit" | "kill-self" | "segfault" | "spin" | "hang" | "spawn" | "capture" | "ignore" | "touch-memory" | "comm" => {
                self.process_command(command, rest);
            }
            "fill-memory" | "forks" | "forked" | "crowd" | "fork-bomb" | "burn" => self.bomb_command(command, rest),
            _ => self.look_command(command, rest),
        }
    }

    fn bomb_command(&mut self, command: &str, rest: &str) {
        match command {
            "fill-memory" => {
                let [kind, megabytes, past] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else { give_up("fill-memory KIND MB PAST") };
                let filled = bombs::fill(kind, number(megabytes), number(past));
                self.notes.text("filled", &outcome(filled));
            }
            "forks" => {
                let (made, last) = bombs::forks();
                self.notes.set("forks", &made.to_string());
                self.notes.text("fork-refused", &last);
            }
            "forked" => {
                let (count, pause) = rest.split_once(' ').unwrap_or_else(|| give_up("forked COUNT MS"));
                bombs::forked(number(count), Duration::from_millis(number(pause)));
            }
            "crowd" => {
                let (count, descriptors) = rest.split_once(' ').unwrap_or_else(|| give_up("crowd COUNT DESCRIPTORS"));
                self.notes.text("crowd", &outcome(bombs::crowd(number(count), number(descriptors))));
            }
            "burn" => {
                let (name, pause) = rest.split_once(' ').unwrap_or_else(|| give_up("burn NAME MS"));
                self.notes.set(name, &bombs::burn(Duration::from_millis(number(pause))).to_string());
            }
            _ => bombs::fork_bomb(),
        }
    }

    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> http::Answer {
        let path = path.replace("{id}", &self.request_id);
        let mut headers = std::mem::take(&mut self.headers);
        headers.iter_mut().for_each(|(_, value)| *value = value.replace("{extension}", &self.extension));
        self.api.request(method, &path, &headers, body).unwrap_or_else(|error| http::Answer {
            status: 0,
            headers: Vec::new(),
            body: error.to_string().into_bytes(),
        })
    }

    fn post_response(&mut self, body: &[u8]) {
        let answer = self.request("POST", "/2018-06-01/runtime/invocation/{id}/response", body);
        self.notes.set("respond-status", &answer.status.to_string());
    }

    fn api_command(&mut self, command: &str, rest: &str) {
        match command {
            "next" => {
                let answer = self.request("GET", NEXT, b"");
                if answer.status != 200 {
                    self.notes.set("next-refused", &answer.to_json());
                    return;
                }
                self.request_id = answer.header("lambda-runtime-aws-request-id").unwrap_or_default().to_owned();
                self.event_headers = answer.headers;
                self.event = answer.body;
            }
            "respond" => self.post_response(rest.as_bytes()),
            "respond-event" => {
                let event = self.event.clone();
                self.post_response(&event);
            }
            "respond-notes" => {
                let notes = self.notes.to_json();
                self.post_response(notes.as_bytes());
            }
            "respond-size" => self.post_response(&sized_json(number(rest) as usize)),
            "error" => {
                let answer = self.request("POST", "/2018-06-01/runtime/invocation/{id}/error", rest.as_bytes());
                self.notes.set("error", &answer.to_json());
            }
            "init-error" => {
                let answer = self.request("POST", "/2018-06-01/runtime/init/error", rest.as_bytes());
                self.notes.set("init-error", &answer.to_json());
            }
            "http" | "http-size" => {
                let words: Vec<&str> = rest.splitn(4, ' ').collect();
                let [name, method, path, ref body @ ..] = words[..] else { give_up("http NAME METHOD PATH [BODY]") };
                let text = body.first().copied().unwrap_or("");
                let body = if command == "http" { text.as_bytes().to_vec() } else { sized_json(number(text) as usize) };
                let answer = self.request(method, path, &body);
                if let Some(identifier) = answer.header("lambda-extension-identifier") {
                    self.extension = identifier.to_owned();
                }
                self.notes.set(name, &answer.to_json());
            }
            "relay" => {
                let (protocol, address) = rest.split_once(' ').unwrap_or_else(|| give_up("relay tcp|http ADDRESS"));
                self.notes.text("relay", &outcome(relay::listen(protocol, address)));
            }
            "header" => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                self.headers.push((name.to_owned(), value.to_owned()));
            }
            _ => {
                self.notes.set("event-bytes", &self.event.len().to_string());
                self.notes.set("event-fnv", &fnv(&self.event).to_string());
                self.notes.set("event-text", &json_text(&self.event[..self.event.len().min(4096)]));
                let headers: BTreeMap<String, String> = self.event_headers.iter().cloned().collect();
                self.notes.set("event-headers", &notes::json_map(&headers));
                self.notes.set("now-ms", &now_ms().to_string());
            }
        }
    }

    /// For every event, a JSON string: does what it says, commands parted by ` ; `.
    fn obey(&mut self) -> ! {
        loop {
            self.api_command("next", "");
            if self.event.is_empty() {
                exit(98)
            }
            let event = String::from_utf8_lossy(&self.event).into_owned();
            let line = event.trim().trim_matches('"').replace("\\\"", "\"").replace("\\\\", "\\");
            line.split(" ; ").for_each(|command| self.run(command));
        }
    }

    fn answer_all(&mut self) -> ! {
        loop {
            self.api_command("next", "");
            if self.event.is_empty() {
                exit(98)
            }
            self.post_response(b"null");
        }
    }

    fn stream_command(&mut self, command: &str, rest: &str) {
        let mut stdout = io::stdout().lock();
        let written = match command {
            "out" => stdout.write_all(&unescape(rest)),
            "err" => io::stderr().write_all(&unescape(rest)),
            "frame" => relay::frame(&unescape(rest)),
            "out-fill" => (0..number(rest)).step_by(65536).try_for_each(|_| stdout.write_all(&[b'x'; 65536])),
            "out-lines" => (0..number(rest)).try_for_each(|n| writeln!(stdout, "line {n}")),
            "close-out" => system::close_stdout(),
            _ => writeln!(stdout, "{}", self.notes.to_json()),
        };
        let flushed = written.and_then(|()| stdout.flush());
        drop(stdout);
        if let Err(error) = flushed {
            self.notes.set("write-failed", &json_text(system::errno_name(&error).as_bytes()));
        }
    }

    fn process_command(&mut self, command: &str, rest: &str) {
        match command {
            "sleep" => thread::sleep(Duration::from_millis(number(rest))),
            "exit" => exit(number(rest) as i32),
            "kill-self" => system::kill_self(number(rest) as i32),
            "segfault" => system::segfault(),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "hang" => loop {
                thread::sleep(Duration::from_secs(3600));
            },
            "spawn" => {
                // Not waited for: it becomes an orphan when we end.
                let line = if self.on_a_line { rest.replace(" ;; ", " ; ") } else { rest.to_owned() };
                let line = line.replace("{extension}", &self.extension);
                let child = Command::new(own_path()).arg("--line").arg(line).spawn();
                self.notes.text("spawned", &child.map_or_else(|error| system::errno_name(&error), |child| child.id().to_string()));
            }
            "capture" => {
                let (name, line) = rest.split_once(' ').unwrap_or((rest, ""));
                let output = Command::new(own_path()).arg("--line").arg(line).stdin(Stdio::null()).output();
                self.notes.set(name, &notes::json_output(output));
            }
            "ignore" => system::ignore_signal(number(rest) as i32),
            "touch-memory" => self.ballast.push(vec![1; (number(rest) << 20) as usize]),
            _ => {
                let _ = system::set_name(rest);
            }
        }
    }

    fn look_command(&mut self, command: &str, rest: &str) {
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        match (command, words.as_slice()) {
            ("note-env", _) => {
                let variables: BTreeMap<String, String> =
                    env::vars_os().map(|(key, value)| (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect();
                self.notes.set(name, &notes::json_map(&variables));
            }
            ("note-args", _) => self.notes.set(name, &notes::json_list(env::args())),
            ("note-cwd", _) => {
                self.notes.text(name, &env::current_dir().map_or_else(|e| system::errno_name(&e), |d| d.display().to_string()))
            }
            ("note-now", _) => self.notes.set(name, &now_ms().to_string()),
            ("note-pid", _) => self.notes.set(name, &std::process::id().to_string()),
            ("note-stdin", _) => self.notes.text(name, &read_stdin(|stdin, text| stdin.read_to_string(text))),
            ("note-line", _) => self.notes.text(name, &read_stdin(|stdin, text| stdin.read_line(text))),
            ("read", [path]) => self.notes.set(name, &read_text(path)),
            ("list", [path]) => self.notes.set(name, &list(path)),
            ("links", [path]) => self.notes.set(name, &links(path)),
            ("stat", [path]) => self.notes.set(name, &system::stat_json(Path::new(path))),
            ("write", [path, text @ ..]) => self.notes.text(name, &outcome(fs::write(path, text.join(" ")))),
            ("append", [path, text @ ..]) => {
                let opened = fs::OpenOptions::new().append(true).open(path);
                self.notes.text(name, &outcome(opened.and_then(|mut file| file.write_all(text.join(" ").as_bytes()))));
            }
            ("open-write", [path]) => self.notes.text(name, &outcome(fs::OpenOptions::new().write(true).open(path))),
            ("mkdir", [path]) => self.notes.text(name, &outcome(fs::create_dir(path))),
            ("remove", [path]) => self.notes.text(name, &outcome(fs::remove_file(path))),
            ("link", [from, to]) => self.notes.text(name, &outcome(fs::hard_link(from, to))),
            ("symlink", [target, at]) => self.notes.text(name, &outcome(std::os::unix::fs::symlink(target, at))),
            ("copy", [from, to]) => self.notes.text(name, &outcome(fs::copy(from, to))),
            ("chmod", [path, mode]) => self.notes.text(name, &outcome(system::chmod(path, mode))),
            ("fill", [path, size]) => self.notes.text(name, &fill(path, number(size))),
            ("exec", [program, arguments @ ..]) => {
                let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
                self.notes.set(name, &notes::json_output(output));
            }
            ("feed", [program, size]) => self.notes.text(name, &feed(program, number(size))),
            ("connect", [address]) => self.notes.text(name, &outcome(TcpStream::connect(address))),
            ("connect-abstract", [socket]) => self.notes.text(name, &outcome(system::connect_abstract(socket))),
            ("syscall", [number_text, arguments @ ..]) => {
                self.notes.text(name, &outcome(system::raw(number(number_text), arguments, number)));
            }
            ("result", [number_text, arguments @ ..]) => {
                let result = system::raw(number(number_text), arguments, number);
                self.notes.text(name, &result.map_or_else(|error| system::errno_name(&error), |result| result.to_string()));
            }
            ("connections", [what, arguments @ ..]) => self.notes.set(name, &connections::attempt(what, arguments)),
            ("clone", [flags]) => self.notes.text(name, &outcome(system::clone_and_exit(number(flags)))),
            ("int80", [number_text]) => self.notes.text(name, &system::int80(number(number_text))),
            _ => give_up(&format!("unknown command: {command} {name} {rest}")),
        }
    }
}

/// Ourselves, by a path that a script in the sandbox may exec.
fn own_path() -> std::path::PathBuf {
    env::current_exe().unwrap_or_else(|_| "/var/task/bootstrap".into())
}

/// Starts a program, writes so many bytes to its standard input and ends that; says how it went, and how the program ended.
fn feed(program: &str, size: u64) -> String {
    let fed = Command::new(program).stdin(Stdio::piped()).spawn().and_then(|mut child| {
        let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(&vec![b'f'; size as usize]));
        let status = child.wait()?;
        Ok(format!("{} {status}", outcome(written)))
    });
    fed.unwrap_or_else(|error| system::errno_name(&error))
}

/// A JSON string of exactly `size` bytes, quotes included.
fn sized_json(size: usize) -> Vec<u8> {
    let mut body = vec![b'a'; size];
    if let [first, .., last] = body.as_mut_slice() {
        (*first, *last) = (b'"', b'"');
    }
    body
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn read_stdin(read: impl FnOnce(&mut io::StdinLock<'_>, &mut String) -> io::Result<usize>) -> String {
    let mut text = String::new();
    match read(&mut io::stdin().lock(), &mut text) {
        Ok(_) => text.trim_end().to_owned(),
        Err(error) => system::errno_name(&error),
    }
}

fn read_text(path: &str) -> String {
    // Some files of /proc end only where a read fails.
    let mut bytes = Vec::new();
    match fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => json_text(&bytes),
        Err(error) => json_text(system::errno_name(&error).as_bytes()),
    }
}

fn list(path: &str) -> String {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            notes::json_list(names)
        }
        Err(error) => json_text(system::errno_name(&error).as_bytes()),
    }
}

/// Names in a folder with what each links to, such as `/proc/self/fd`; the descriptor that reads the folder is left out.
fn links(path: &str) -> String {
    let mut found = BTreeMap::new();
    match fs::read_dir(path) {
        Ok(entries) => {
            for name in entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>() {
                if let Ok(target) = fs::read_link(Path::new(path).join(&name)) {
                    found.insert(name, target.to_string_lossy().into_owned());
                }
            }
            notes::json_map(&found)
        }
        Err(error) => json_text(system::errno_name(&error).as_bytes()),
    }
}

/// Writes `size` bytes and says how it ended; the file stays.
fn fill(path: &str, size: u64) -> String {
    let block = vec![b'f'; 1 << 20];
    let written = fs::File::create(path).and_then(|mut file| {
        let mut left = size;
        while left > 0 {
            let part = left.min(block.len() as u64);
            file.write_all(&block[..part as usize])?;
            left -= part;
        }
        Ok(())
    });
    outcome(written)
}
