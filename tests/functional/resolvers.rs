//! Names as different libraries resolve them, through a private network: each program asks a name server of the test's own by the `resolv.conf` inside.
//!
//! Only root may listen on port 53; how datagrams go is the same for everyone (`private_network`).

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::names::{NOBODY, NameServer};
use tests::skip::{Lack, has_program, is_root, skip};
use tests::{Fixture, skip_for_this_user, skip_in_isolation};

/// Two names, each with the address that it was found to have.
const C: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int count, char **names) {
    for (int index = 1; index < count; index++) {
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
        int error = getaddrinfo(names[index], 0, &hints, &found);
        if (error) { printf("%s\n", gai_strerror(error)); continue; }
        char text[64];
        inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
        puts(text);
    }
}
"#;

const GO: &str = r#"package main

import (
    "fmt"
    "net"
    "os"
)

func main() {
    for _, name := range os.Args[1:] {
        found, err := net.LookupHost(name)
        if err != nil {
            fmt.Println(err)
            continue
        }
        fmt.Println(found[0])
    }
}
"#;

/// The library that asks by itself, and the C library's way.
const NODE: &str = "const dns = require('dns').promises\n\
    const ask = async names => { for (const name of names) console.log((await dns.resolve4(name))[0], (await dns.lookup(name)).address) }\n\
    ask(process.argv.slice(2))\n";

const PYTHON: &str = "import socket, sys\nfor name in sys.argv[1:]: print(socket.getaddrinfo(name, 80)[0][4][0])\n";

/// Runs a program of the task folder, or one of the machine's, for both names; `each` is how often it says an address.
fn resolves(line: impl Fn(&Fixture) -> Option<Vec<String>>, each: usize) {
    skip_in_isolation!(["chroot", "in-place"], "no network of its own");
    let Some(fixture) = Fixture::new() else { return };
    if !is_root() {
        skip_for_this_user!("only root may listen on port 53 and lay a file over /etc/resolv.conf");
    }
    let Some(names) = NameServer::start() else { tests::skip!("this machine has no address but those of its loopback") };
    let Some(line) = line(&fixture) else { return };
    let (program, rest) = line.split_first().expect("a program");
    let shell = names.shell(fixture.path());
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let rest: Vec<&str> = rest.iter().map(String::as_str).chain(["open.example", "closed.example"]).collect();
    let arguments = [&["run", "-v", &volume, "--entrypoint", program, "host"][..], &rest].concat();
    let ran = fixture.undocked_by_shell(&shell, &arguments).finish().expect_code(0);
    let wanted: Vec<String> = [names.own, NOBODY].iter().flat_map(|address| vec![address.to_string(); each]).collect();
    assert_eq!(ran.out().split_whitespace().collect::<Vec<_>>(), wanted, "{}", ran.err());
    fixture.expect_nothing_left();
}

/// Compiles a program into the task folder.
fn compiled(fixture: &Fixture, source: (&str, &str), compiler: impl FnOnce(&Path, &Path) -> Command) -> Option<Vec<String>> {
    let (name, text) = source;
    let source = fixture.path().join(name);
    fs::write(&source, text).expect("written");
    let output = compiler(&source, &fixture.task().join("program")).output().expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(vec!["/var/task/program".to_owned()])
}

#[test]
fn names_are_resolved_by_musl() {
    let line = |fixture: &Fixture| {
        if !has_program("musl-gcc") {
            skip(Lack::Providable, "musl-gcc (musl-tools) is not installed");
            return None;
        }
        compiled(fixture, ("resolves.c", C), |source, program| {
            let mut command = Command::new("musl-gcc");
            command.arg("-static").arg(source).arg("-o").arg(program);
            command
        })
    };
    resolves(line, 1);
}

#[test]
fn names_are_resolved_by_glibc() {
    let line = |fixture: &Fixture| {
        compiled(fixture, ("resolves.c", C), |source, program| {
            let mut command = Command::new("cc");
            command.arg(source).arg("-o").arg(program);
            command
        })
    };
    resolves(line, 1);
}

/// Go's own resolver, in a static program.
#[test]
fn names_are_resolved_by_go() {
    let line = |fixture: &Fixture| {
        if Command::new("go").arg("version").output().is_err() {
            skip(Lack::Large, "go (golang-go) is not installed");
            return None;
        }
        compiled(fixture, ("resolves.go", GO), |source, program| {
            let mut command = Command::new("go");
            command.arg("build").arg("-o").arg(program).arg(source).env("CGO_ENABLED", "0").env("GO111MODULE", "off");
            command.env("GOCACHE", fixture.path().join("go-cache")).env("GOPATH", fixture.path().join("go"));
            command
        })
    };
    resolves(line, 1);
}

#[test]
fn names_are_resolved_by_node() {
    let line = |fixture: &Fixture| {
        if !has_program("node") {
            skip(Lack::Providable, "node is not installed");
            return None;
        }
        fs::write(fixture.task().join("resolves.js"), NODE).expect("written");
        Some(["node", "/var/task/resolves.js"].map(str::to_owned).to_vec())
    };
    resolves(line, 2);
}

#[test]
fn names_are_resolved_by_python() {
    let line = |fixture: &Fixture| {
        if !Path::new("/usr/bin/python3").exists() {
            skip(Lack::Providable, "/usr/bin/python3 is not installed");
            return None;
        }
        fs::write(fixture.task().join("resolves.py"), PYTHON).expect("written");
        Some(["/usr/bin/python3", "/var/task/resolves.py"].map(str::to_owned).to_vec())
    };
    resolves(line, 1);
}
