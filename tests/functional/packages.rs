//! What people install undocked by: the install script and the Debian package, made of the program that the tests run.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tests::{place, skip};

fn packaging(script: &str) -> Command {
    let mut command = Command::new(place::project().join("packaging").join(script));
    command.stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn expect_success(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A program that stands for ours and is small: packages are compressed, and ours is large while it is being developed.
fn small_program(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("undocked");
    let undocked = place::undocked().display();
    std::fs::write(&path, format!("#!/bin/sh\nexec {undocked} \"$@\"\n")).expect("it can be written");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    path
}

#[test]
fn the_debian_package_holds_what_it_must_and_is_reproducible() {
    if !skip::has_program("dpkg-deb") {
        tests::skip!("dpkg-deb is not installed");
    }
    let folder = place::scratch();
    // The profile is for the program's place, so the program must know it.
    let program = folder.path().join("undocked");
    std::fs::copy(place::undocked(), &program).expect("it can be copied");
    expect_success(&Command::new("strip").arg(&program).output().expect("strip starts"));
    let build = |output: &str| {
        let made = packaging("build-deb").arg(&program).arg(folder.path().join(output)).env("SOURCE_DATE_EPOCH", "1700000000").output();
        expect_success(&made.expect("it starts")).trim_end().to_owned()
    };
    let (one, two) = (build("one"), build("two"));
    assert_eq!(std::fs::read(&one).expect("it is there"), std::fs::read(&two).expect("it is there"));
    let list = expect_success(&Command::new("dpkg-deb").args(["-c", &one]).output().expect("it starts"));
    for (mode, path) in [
        ("-rwxr-xr-x root/root", "./usr/bin/undocked"),
        ("-rw-r--r-- root/root", "./usr/share/man/man1/undocked-run.1.gz"),
        ("-rw-r--r-- root/root", "./usr/share/bash-completion/completions/undocked"),
        ("-rw-r--r-- root/root", "./usr/share/zsh/vendor-completions/_undocked"),
        ("-rw-r--r-- root/root", "./usr/share/fish/vendor_completions.d/undocked.fish"),
        ("-rw-r--r-- root/root", "./etc/apparmor.d/undocked"),
    ] {
        assert!(list.lines().any(|line| line.starts_with(mode) && line.ends_with(&format!(" {path}"))), "{mode} {path}: {list}");
    }
    expect_success(&Command::new("dpkg-deb").arg("-x").args([&one]).arg(folder.path().join("tree")).output().expect("it starts"));
    let tree = folder.path().join("tree");
    let profile = std::fs::read_to_string(tree.join("etc/apparmor.d/undocked")).expect("it is there");
    assert!(profile.contains("profile undocked \"/usr/bin/undocked\"") && profile.contains("userns,"), "{profile}");
    let version = expect_success(&Command::new(tree.join("usr/bin/undocked")).arg("--version").output().expect("it starts"));
    assert!(version.starts_with("undocked "), "{version}");
}

/// Serves the files of a folder to one client after another; ends with the process.
fn serve(folder: std::path::PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&part[..read]),
                }
            }
            let line = text(&request);
            let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) = std::fs::read(folder.join(path)).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    port
}

fn install(home: &Path, port: u16, options: &[&str]) -> Output {
    let mut command = packaging("install.sh");
    command.args(options).env("HOME", home).env("UNDOCKED_RELEASES", format!("http://127.0.0.1:{port}"));
    command.output().expect("it starts")
}

#[test]
fn the_install_script_installs_what_was_published_and_nothing_else() {
    if !skip::has_program("curl") || !skip::has_program("sha256sum") {
        tests::skip!("curl is not installed");
    }
    let folder = place::scratch();
    let published = folder.path().join("latest/download");
    std::fs::create_dir_all(&published).expect("it can be made");
    let file = format!("undocked-{}-linux.gz", std::env::consts::ARCH);
    let script = format!("gzip -9nc \"$1\" >'{file}' && sha256sum '{file}' >'{file}.sha256'");
    let program = small_program(folder.path());
    expect_success(&Command::new("sh").args(["-c", &script, "sh"]).arg(&program).current_dir(&published).output().expect("it starts"));
    let port = serve(folder.path().to_owned());
    let home = folder.path().join("home");

    let said = expect_success(&install(&home, port, &["--docker"]));
    assert!(said.contains("installed undocked ") && said.contains("is not in PATH"), "{said}");
    let local = home.join(".local");
    for path in ["bin/undocked", "bin/docker", "share/man/man1/undocked.1", "share/bash-completion/completions/undocked"] {
        assert!(local.join(path).exists(), "{path}");
    }
    // Again, over what runs.
    expect_success(&install(&home, port, &[]));

    let other = folder.path().join("other");
    std::fs::OpenOptions::new().append(true).open(published.join(&file)).and_then(|mut file| file.write_all(b"x")).expect("it is there");
    for (options, code, part) in
        [(&[][..], 1, "should have"), (&["--version", "9.9.9"], 1, "cannot get"), (&["--nonsense"], 2, "unknown option")]
    {
        let refused = install(&other, port, options);
        assert_eq!(refused.status.code(), Some(code), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains(part), "{}", text(&refused.stderr));
        assert!(!other.exists(), "{options:?}");
    }
    let refused = packaging("install.sh").env("HOME", &other).env("UNDOCKED_RELEASES", "http://example.org").output().expect("it starts");
    assert_eq!(refused.status.code(), Some(2));
}
