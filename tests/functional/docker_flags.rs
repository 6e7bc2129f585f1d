//! Every flag that the face of docker accepts does what docker's does, or is listed in docs/docker.md as one that changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use tests::leftovers::eventually;
use tests::run::Ran;
use tests::{Fixture, place};

fn out(fixture: &Fixture, arguments: &[&str]) -> String {
    fixture.docker(arguments).finish().expect_code(0).out()
}

/// The notes that a plain command printed.
fn notes(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out()).unwrap_or_else(|_| panic!("no notes: {} {}", ran.out(), ran.err()))
}

/// What a plain command that was run with these options finds in a file.
fn found(fixture: &Fixture, options: &[&str], file: &str) -> String {
    let ran = fixture.docker_probe(&[&["run", "--rm"], options].concat(), &format!("read text {file} ; print-notes")).finish();
    notes(&ran.expect_code(0))["text"].as_str().expect("a text").to_owned()
}

fn inspected(fixture: &Fixture, template: &str, name: &str) -> String {
    out(fixture, &["inspect", "-f", template, name]).trim_end().to_owned()
}

fn start(fixture: &Fixture, options: &[&str], line: &str) {
    fixture.docker_probe(&[&["run", "-d", "--name", "it"], options].concat(), line).finish().expect_code(0);
}

#[test]
fn run_variables_and_places() {
    let Some(fixture) = Fixture::new() else { return };
    fs::write(fixture.path().join("variables"), "# none\nFROM_FILE=yes\n").expect("written");
    let ran =
        fixture.docker_probe(&["run", "--rm", "--env-file", "variables", "--env", "GIVEN=too"], "note-env all ; print-notes").finish();
    let all = notes(&ran.expect_code(0))["all"].clone();
    assert_eq!((&all["FROM_FILE"], &all["GIVEN"]), (&"yes".into(), &"too".into()));
    let ran = fixture.docker_probe(&["run", "--rm", "--workdir", "/var/task"], "note-cwd cwd ; print-notes").finish().expect_code(0);
    assert_eq!(notes(&ran)["cwd"], "/var/task");
    let shown = fixture.path().join("shown");
    fs::create_dir(&shown).expect("made");
    fs::write(shown.join("file"), "shown").expect("written");
    let mount = format!("type=bind,src={},dst=/shown,readonly", shown.display());
    assert_eq!(found(&fixture, &["--mount", &mount], "/shown/file"), "shown");
    assert_eq!(found(&fixture, &["--volume", &format!("{}:/shown", shown.display())], "/shown/file"), "shown");
    let tmp = |options: &[&str]| {
        let mounts = found(&fixture, options, "/proc/self/mounts");
        // The last one covers what was there before.
        mounts.lines().rfind(|line| line.split(' ').nth(1) == Some("/tmp")).map(str::to_owned)
    };
    // In a root that may be written to as in one that may not.
    let by_mount = ["--mount", "type=tmpfs,dst=/tmp,tmpfs-size=9437184"];
    for options in [&["--tmpfs", "/tmp:rw,size=9216k"][..], &by_mount, &["--read-only", "--tmpfs", "/tmp:size=9m"]] {
        assert!(
            tmp(options).is_some_and(|line| line.contains(" tmpfs ") && line.contains("size=9216k")),
            "{options:?}: {:?}",
            tmp(options)
        );
    }
    assert!(tmp(&["--tmpfs", "/tmp"]).is_some_and(|line| line.contains(" tmpfs ")) && tmp(&[]).is_none());
    // What is shown below it lies in it.
    let below = format!("{}:/tmp/deep/shown", shown.display());
    assert_eq!(found(&fixture, &["--tmpfs", "/tmp:size=1m", "-v", &below], "/tmp/deep/shown/file"), "shown");
    assert_eq!(found(&fixture, &["-v", &below], "/tmp/deep/shown/file"), "shown");
    let large = "x".repeat(3 << 19);
    fs::write(shown.join("large"), &large).expect("written");
    let ran = fixture.docker_probe(
        &["run", "--rm", "--tmpfs", "/tmp:size=1m", "-v", &below],
        "copy full /tmp/deep/shown/large /tmp/large ; print-notes",
    );
    assert_eq!(notes(&ran.finish().expect_code(0))["full"], "ENOSPC");
    let write = |options: &[&str]| {
        let ran = fixture.docker_probe(&[&["run", "--rm"], options].concat(), "write done /etc/of-ours text ; print-notes").finish();
        notes(&ran.expect_code(0))["done"].clone()
    };
    assert_eq!((write(&[]), write(&["--read-only"])), ("ok".into(), "EROFS".into()));
    let status = found(&fixture, &["--user", "1234:1234"], "/proc/self/status");
    assert!(status.contains("Uid:\t1234\t1234\t"), "{status}");
}

#[test]
fn run_names_of_hosts() {
    let Some(fixture) = Fixture::new() else { return };
    let hosts = found(&fixture, &["--add-host", "other.example:192.0.2.1"], "/etc/hosts");
    assert!(hosts.lines().any(|line| line.split_whitespace().eq(["192.0.2.1", "other.example"])), "{hosts}");
    let options = ["--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:3"];
    for network in ["host", "bridge"] {
        let resolver = found(&fixture, &[&["--network", network], &options[..]].concat(), "/etc/resolv.conf");
        for line in ["nameserver 192.0.2.53", "search example.org", "options ndots:3"] {
            assert!(resolver.lines().any(|own| own == line), "{network}, {line}: {resolver}");
        }
    }
}

#[test]
fn run_limits() {
    let Some(fixture) = Fixture::new() else { return };
    let options = ["--ulimit", "nofile=64:128", "--ulimit=core=0", "--ulimit", "fsize=4096"];
    let limits = found(&fixture, &options, "/proc/self/limits");
    for (name, soft, hard) in [("Max open files", "64", "128"), ("Max core file size", "0", "0"), ("Max file size", "4096", "4096")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{limits}");
    }
    for (limit, said) in [("files=1", "invalid ulimit type: files"), ("nofile=2:1", "ulimit soft limit must be less than or equal to hard")]
    {
        let ran = fixture.docker_probe(&["run", "--rm", "--ulimit", limit], "exit 0").finish().expect_code(125);
        assert!(ran.err().contains(said), "{}", ran.err());
    }
    fixture.script("next\nrespond-event");
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let ran = fixture.docker(&["run", "--rm", "--ulimit", "nofile=64", "-v", &volume, &fixture.image("provided"), "h", "1"]).finish();
    assert!(ran.expect_code(125).err().contains("`--ulimit` is not supported for functions"));
    let figures = ["create", "--name", "it", "--cpus", "0.5", "--memory", "64m", "--ulimit", "nofile=9"];
    fixture.docker_probe(&figures, "exit 0").finish().expect_code(0);
    let template = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{json .HostConfig.Ulimits}}";
    assert_eq!(inspected(&fixture, template, "it"), r#"500000000 67108864 [{"Hard":9,"Name":"nofile","Soft":9}]"#);
    out(&fixture, &["rm", "it"]);
    let ran = fixture.docker_probe(&["run", "--name", "it", "--memory", "64m"], "touch-memory 200").finish();
    if !ran.err().contains("memory is not limited") {
        assert_eq!((ran.code(), inspected(&fixture, "{{.State.OOMKilled}}", "it").as_str()), (137, "true"), "{}", ran.err());
    }
    out(&fixture, &["rm", "it"]);
}

#[test]
fn run_streams() {
    let Some(fixture) = Fixture::new() else { return };
    let line = "out to-out\\n ; err to-err\\n";
    let ran = fixture.docker_probe(&["run", "--rm", "--attach", "stderr"], line).finish().expect_code(0);
    assert_eq!((ran.out().as_str(), ran.err().contains("to-err")), ("", true));
    let ran = fixture.docker_probe(&["run", "--rm", "--tty"], line).finish().expect_code(0);
    assert_eq!(ran.out(), "to-out\r\nto-err\r\n");
    for (options, read) in [(&["run", "--rm", "--interactive"][..], "typed"), (&["run", "--rm"], "")] {
        let ran = fixture.docker_probe(options, "note-stdin text ; print-notes").stdin("typed").finish().expect_code(0);
        assert_eq!(notes(&ran)["text"], read);
    }
    let run = fixture.docker_probe(&["run", "--rm", "--sig-proxy=false"], "ignore 15 ; err begun\\n ; sleep 60000").start();
    run.wait_for_stderr("begun");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.finish().expect_code(137);
}

#[test]
fn run_ports() {
    let Some(fixture) = Fixture::new() else { return };
    start(&fixture, &["--publish", "127.0.0.1::7001", "--publish-all", "--expose", "7002"], "sleep 60000");
    let ports = out(&fixture, &["port", "it"]);
    assert!(ports.contains("7001/tcp -> 127.0.0.1:") && ports.contains("7002/tcp -> "), "{ports}");
    let asked = inspected(&fixture, "{{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}", "it");
    assert_eq!(
        asked,
        r#"{"7001/tcp":[{"HostIp":"127.0.0.1","HostPort":""}],"7002/tcp":[{"HostIp":"","HostPort":""}]} {"7001/tcp":{},"7002/tcp":{}}"#
    );
    out(&fixture, &["rm", "-f", "it"]);
    fixture.docker_probe(&["create", "--name", "it", "-p", "9100:8080"], "exit 0").finish().expect_code(0);
    assert_eq!(inspected(&fixture, "{{json .HostConfig.PortBindings}}", "it"), r#"{"8080/tcp":[{"HostIp":"","HostPort":"9100"}]}"#);
    out(&fixture, &["rm", "it"]);
}

/// A port without an address is open on all of both families; who cuts the first line wants the IPv4 one.
#[test]
fn run_ports_of_both_families() {
    let Some(fixture) = Fixture::new() else { return };
    start(&fixture, &["--publish", "7000"], "sleep 60000");
    let lines = out(&fixture, &["port", "it", "7000"]);
    let port = lines.lines().next().and_then(|line| line.strip_prefix("0.0.0.0:")).unwrap_or_else(|| panic!("{lines}"));
    if std::net::TcpListener::bind("[::]:0").is_err() {
        assert_eq!(lines, format!("0.0.0.0:{port}\n"));
        return;
    }
    assert_eq!(lines, format!("0.0.0.0:{port}\n[::]:{port}\n"));
    assert_eq!(out(&fixture, &["port", "it"]), format!("7000/tcp -> 0.0.0.0:{port}\n7000/tcp -> [::]:{port}\n"));
    assert_eq!(out(&fixture, &["ps", "--format", "{{.Ports}}"]), format!("0.0.0.0:{port}->7000/tcp, [::]:{port}->7000/tcp\n"));
    let found = inspected(&fixture, "{{json .NetworkSettings.Ports}}", "it");
    assert_eq!(found, format!(r#"{{"7000/tcp":[{{"HostIp":"0.0.0.0","HostPort":"{port}"}},{{"HostIp":"::","HostPort":"{port}"}}]}}"#));
    for address in ["127.0.0.1", "[::1]"] {
        std::net::TcpStream::connect(format!("{address}:{port}")).expect(address);
    }
    out(&fixture, &["rm", "-f", "it"]);
}

#[test]
fn run_names_and_ends() {
    let Some(fixture) = Fixture::new() else { return };
    fs::write(fixture.path().join("labels"), "from=file\n\n# none\nboth=file\n").expect("written");
    start(&fixture, &["--label-file", "labels", "--label", "both=given", "--stop-signal", "SIGINT"], "sleep 60000");
    assert_eq!(inspected(&fixture, "{{json .Config.Labels}}", "it"), r#"{"both":"given","from":"file"}"#);
    out(&fixture, &["stop", "it"]);
    assert_eq!(inspected(&fixture, "{{.State.ExitCode}}", "it"), "130");
    out(&fixture, &["rm", "it"]);
    start(&fixture, &["--stop-timeout", "0"], "ignore 15 ; out deaf\\n ; sleep 60000");
    eventually(Duration::from_secs(5), "it is deaf", || out(&fixture, &["logs", "it"]) == "deaf\n");
    out(&fixture, &["stop", "it"]);
    assert_eq!(inspected(&fixture, "{{.State.ExitCode}}", "it"), "137");
    // With other ends than those that it was made with.
    for (line, code) in [
        (&["stop", "--signal", "SIGINT", "it"][..], "130"),
        (&["restart", "--signal", "SIGKILL", "it"], "0"),
        (&["kill", "--signal", "SIGTERM", "it"], "143"),
        (&["kill", "-s", "9", "it"], "137"),
    ] {
        out(&fixture, &["rm", "-f", "it"]);
        start(&fixture, &[], "sleep 60000");
        out(&fixture, line);
        if line[0] == "kill" {
            out(&fixture, &["wait", "it"]);
        }
        assert_eq!(inspected(&fixture, "{{.State.ExitCode}}", "it"), code, "{line:?}");
    }
    for line in [
        &["stop", "--timeout", "0", "it"][..],
        &["stop", "--time", "0", "it"],
        &["restart", "--timeout", "0", "it"],
        &["restart", "--time=0", "it"],
    ] {
        out(&fixture, &["rm", "-f", "it"]);
        start(&fixture, &[], "ignore 15 ; out deaf\\n ; sleep 60000");
        eventually(Duration::from_secs(5), "it is deaf", || out(&fixture, &["logs", "it"]) == "deaf\n");
        out(&fixture, line);
        let is_again = line[0] == "restart";
        assert_eq!(inspected(&fixture, "{{.State.Running}}", "it"), is_again.to_string(), "{line:?}");
    }
    out(&fixture, &["rm", "-f", "it"]);
}

#[test]
fn run_images_and_kinds() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.docker_probe(&["run", "--rm", "--quiet"], "exit 0").finish().expect_code(0);
    assert_eq!(ran.err(), "");
    let missing = fixture.docker(&["run", "--pull", "never", "none.invalid/none:1"]).finish().expect_code(125);
    assert!(missing.err().contains("none.invalid/none:1"), "{}", missing.err());
    let other = if std::env::consts::ARCH == "x86_64" { "linux/arm64" } else { "linux/amd64" };
    fixture.docker(&["run", "--platform", other, &fixture.image("provided"), "x"]).finish().expect_code(125);
    for (option, said) in [
        (["--runtime", "other"], "`--runtime other` is not supported"),
        (["--log-driver", "syslog"], "`--log-driver syslog` is not supported"),
        (["--security-opt", "seccomp=/none/such"], "/none/such"),
    ] {
        let ran = fixture.docker_probe(&[&["run", "--rm"], &option[..]].concat(), "exit 0").finish();
        assert!(ran.code() != 0 && ran.err().contains(said), "{}", ran.err());
    }
    fixture.docker_probe(&["run", "--rm", "--runtime", "runc", "--log-driver", "json-file"], "exit 0").finish().expect_code(0);
    let links = |option: &str| fixture.docker_probe(&["run", "--rm", option, "host"], "links net /proc/self/ns ; print-notes").finish();
    let net = fs::read_link("/proc/self/ns/net").expect("a link").display().to_string();
    for option in ["--network", "--net"] {
        let ran = links(option).expect_code(0).out();
        assert!(ran.contains(&net), "{ran}");
    }
}

#[test]
fn lists_of_runs() {
    let Some(fixture) = Fixture::new() else { return };
    for name in ["first", "second"] {
        fixture.docker_probe(&["create", "--name", name], "exit 0").finish().expect_code(0);
    }
    let names = |options: &[&str]| out(&fixture, &[&["ps", "--format", "{{.Names}}"], options].concat());
    assert_eq!((names(&[]), names(&["--all"]), names(&["--latest"])), (String::new(), "second\nfirst\n".into(), "second\n".into()));
    assert_eq!((names(&["--last", "1"]), names(&["-a", "--filter", "name=first"])), ("second\n".into(), "first\n".into()));
    let ids = out(&fixture, &["ps", "-a", "--quiet", "--no-trunc"]);
    assert!(ids.lines().all(|id| id.len() == 64) && ids.lines().count() == 2, "{ids}");
    assert_eq!(out(&fixture, &["inspect", "--type", "container", "--format", "{{.Name}}", "first"]), "/first\n");
    fixture.docker(&["inspect", "--type", "image", "first"]).finish().expect_code(1);
    assert_eq!(out(&fixture, &["container", "inspect", "--format", "{{.Name}}", "first"]), "/first\n");
    out(&fixture, &["container", "prune", "-f"]);
    assert_eq!(names(&["-a"]), "");
    // One below a function's `/tmp` has its place there, and one in a task folder that may be written to is made in it.
    fixture.script("write kept /tmp/kept/x y\nread file /var/task/new/place/script\nnext\nrespond-notes\nnext");
    let (task, image) = (fixture.task().display().to_string(), fixture.image("provided"));
    let [around, new] = ["", "/new/place"].map(|below| format!("{task}:/var/task{below}"));
    let ran = fixture.docker(&["run", "--rm", "-v", "/tmp/kept", "-v", &new, "-v", &around, &image, "h", "1"]).finish().expect_code(0);
    assert_eq!(ran.json()["kept"], "ok");
    assert!(ran.json()["file"].as_str().is_some_and(|text| text.contains("respond-notes")) && fixture.task().join("new/place").is_dir());
    // An anonymous volume goes with its run where that is asked for.
    for (option, left) in [(&["rm", "it"][..], 1), (&["rm", "--force", "--volumes", "it"], 1)] {
        fixture.docker_probe(&["create", "--name", "it", "--volume", "/kept"], "exit 0").finish().expect_code(0);
        out(&fixture, option);
        assert_eq!(out(&fixture, &["volume", "ls", "-q"]).lines().count(), left, "{option:?}");
    }
}

/// Paths are shown as they are meant, and a bind mount is no volume.
#[test]
fn what_lists_show_of_mounts_and_labels() {
    let Some(fixture) = Fixture::new() else { return };
    let source = format!("{}/./task/../task", fixture.path().display());
    let shown = format!("{source}:/x/./y");
    start(&fixture, &["-v", &shown, "-v", "named:/z", "--label", "com.a=b,c=d"], "sleep 60000");
    let row: Value = serde_json::from_str(&out(&fixture, &["ps", "--format", "json"])).expect("JSON");
    assert_eq!(row["LocalVolumes"], "1");
    assert!(row.get("CreatedAgo").is_none() && row.get("RunningFor").is_some(), "{row}");
    let clean = fixture.path().join("task").display().to_string();
    assert!(row["Mounts"].as_str().is_some_and(|mounts| mounts.split(',').any(|mount| mount == clean)), "{row}");
    let mounts = inspected(&fixture, "{{range .Mounts}}{{.Source}} {{.Destination}};{{end}}", "it");
    assert!(mounts.contains(&format!("{clean} /x/y;")), "{mounts}");
    assert_eq!(out(&fixture, &["ps", "--format", r#"{{.Label "com.a"}}|{{.Label "none"}}|"#]), "b,c=d||\n");
    assert_eq!(out(&fixture, &["ps", "--format", r#"table {{.Names}}\t{{.Label "com.a"}}"#]), "NAMES     a\nit        b,c=d\n");
    out(&fixture, &["rm", "-f", "it"]);
}

#[test]
fn another_command_with_its_flags() {
    let Some(fixture) = Fixture::new() else { return };
    start(&fixture, &[], "sleep 60000");
    fs::write(fixture.path().join("variables"), "FROM_FILE=yes\n").expect("written");
    let exec =
        |options: &[&str], line: &str| fixture.docker(&[&["exec"], options, &["it", "/var/task/bootstrap", "--line", line]].concat());
    let line = "note-env all ; note-cwd cwd ; print-notes";
    let seen = exec(&["--env", "GIVEN=too", "--env-file", "variables", "--workdir", "/var/task", "--user", "root"], line).finish();
    let seen = notes(&seen.expect_code(0));
    assert_eq!((&seen["all"]["FROM_FILE"], &seen["all"]["GIVEN"], &seen["cwd"]), (&"yes".into(), &"too".into(), &"/var/task".into()));
    let refused = exec(&["--user", "1234"], "exit 0").finish().expect_code(125);
    assert!(refused.err().contains("there is one user inside"), "{}", refused.err());
    let read = "note-stdin text ; print-notes";
    assert_eq!(notes(&exec(&["--interactive"], read).stdin("typed").finish().expect_code(0))["text"], "typed");
    assert_eq!(exec(&["--tty"], "out a\\n ; err b\\n").finish().expect_code(0).out(), "a\r\nb\r\n");
    assert_eq!(exec(&["--detach"], "write done /tmp/detached yes").finish().expect_code(0).out(), "");
    let written = || fixture.docker(&["cp", "it:/tmp/detached", "copied"]).finish().code() == 0;
    eventually(Duration::from_secs(5), "it was written", written);
    exec(&[], "symlink done /tmp/detached /tmp/link").finish().expect_code(0);
    out(&fixture, &["cp", "it:/tmp/link", "as-it-is"]);
    out(&fixture, &["cp", "--follow-link", "it:/tmp/link", "followed"]);
    let is_link = |name: &str| fixture.path().join(name).symlink_metadata().expect("copied").is_symlink();
    assert_eq!((is_link("as-it-is"), is_link("followed")), (true, false));
    out(&fixture, &["rm", "-f", "it"]);
}

#[test]
fn attached_again() {
    let Some(fixture) = Fixture::new() else { return };
    // Whoever attaches passes signals on, unless they say otherwise.
    let talks = ["out talks\\n", "sleep 100"].join(" ; ");
    let line = vec![talks.as_str(); 600].join(" ; ");
    start(&fixture, &[], &line);
    let attached = fixture.docker(&["attach", "it"]).start();
    eventually(Duration::from_secs(10), "it is attached", || attached.stdout_so_far().contains("talks"));
    attached.signal(nix::sys::signal::Signal::SIGTERM);
    attached.finish().expect_code(143);
    out(&fixture, &["start", "it"]);
    let attached = fixture.docker(&["attach", "--sig-proxy=false", "it"]).start();
    eventually(Duration::from_secs(10), "it is attached", || attached.stdout_so_far().contains("talks"));
    attached.signal(nix::sys::signal::Signal::SIGTERM);
    attached.finish().expect_code(143);
    assert_eq!(inspected(&fixture, "{{.State.Running}}", "it"), "true");
    out(&fixture, &["rm", "-f", "it"]);
    let id = fixture.docker_probe(&["create", "--interactive"], "note-stdin text ; print-notes").finish().expect_code(0).out();
    let ran = fixture.docker(&["start", "--attach", "--interactive", id.trim()]).stdin("typed").finish().expect_code(0);
    assert_eq!(notes(&ran)["text"], "typed");
    let logs = out(&fixture, &["logs", "--follow", "--timestamps", "--tail", "1", "--since", "1h", id.trim()]);
    assert!(logs.contains("Z {"), "{logs}");
    assert_eq!(out(&fixture, &["logs", "--until", "1h", id.trim()]), "");
    out(&fixture, &["rm", id.trim()]);
}

#[test]
fn typed_into_it() {
    let Some(fixture) = Fixture::new() else { return };
    // Its input stays open when who typed goes.
    start(&fixture, &["--interactive"], "note-line text ; print-notes");
    let unheard = fixture.docker(&["attach", "--no-stdin", "it"]).stdin("unheard\n").start();
    // The other one's line ends the run, and nobody can attach to it any more.
    let opened = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|file| file.ends_with("log"));
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", unheard.id())).expect("it runs");
    eventually(Duration::from_secs(10), "it is attached", || descriptors().flatten().any(opened));
    let heard = fixture.docker(&["attach", "it"]).stdin("typed\n").start().finish().expect_code(0);
    unheard.finish().expect_code(0);
    assert_eq!(heard.code(), 0);
    assert_eq!(out(&fixture, &["logs", "it"]), "{\"text\":\"typed\"}\n");
    out(&fixture, &["rm", "it"]);
}

#[test]
fn images_with_their_flags() {
    let Some(fixture) = Fixture::new() else { return };
    let image = fixture.image("provided");
    assert_eq!(out(&fixture, &["pull", "--quiet", &image]).lines().count(), 1);
    let own = if std::env::consts::ARCH == "x86_64" { "linux/amd64" } else { "linux/arm64" };
    out(&fixture, &["pull", "--platform", own, &image]);
    out(&fixture, &["tag", &image, "ours:1"]);
    let listed = |options: &[&str]| out(&fixture, &[&["images"], options, &["ours"]].concat());
    assert_eq!(listed(&["--format", "{{.Repository}}:{{.Tag}}"]), "ours:1\n");
    assert!(listed(&["--digests"]).contains("sha256:"));
    assert_eq!((listed(&["--quiet"]).trim().len(), listed(&["--quiet", "--no-trunc"]).trim().len()), (12, 71));
    assert_eq!(out(&fixture, &["images", "-q", "--filter", "reference=none"]), "");
    assert_eq!(out(&fixture, &["image", "inspect", "--format", "{{.Os}}", "ours:1"]), "linux\n");
    out(&fixture, &["save", "--output", "saved.tar", "--platform", own, "ours:1"]);
    out(&fixture, &["rmi", "--force", "ours:1"]);
    assert_eq!(listed(&["-q"]), "");
    out(&fixture, &["load", "--quiet", "--platform", own, "--input", "saved.tar"]);
    assert_eq!(listed(&["-q"]).lines().count(), 1);
    for verb in ["image", "system"] {
        out(&fixture, &["load", "-i", "saved.tar"]);
        out(&fixture, &[verb, "prune", "-f"]);
        assert_eq!(listed(&["-q"]).lines().count(), 1, "{verb}");
        out(&fixture, &[verb, "prune", "--all", "-f"]);
        assert_eq!(listed(&["-q"]).lines().count(), 0, "{verb}");
    }
}

#[test]
fn volumes_and_what_there_is() {
    let fixture = Fixture::without_sandbox();
    assert_eq!(out(&fixture, &["version", "--format", "{{.Server.Os}}"]), "linux\n");
    assert_eq!(out(&fixture, &["info", "--format", "{{.OSType}}"]), "linux\n");
    assert_eq!(out(&fixture, &["system", "info", "--format", "{{.OSType}}"]), "linux\n");
    assert_eq!(out(&fixture, &["volume", "create", "--driver", "local", "--name", "data"]), "data\n");
    fixture.docker(&["volume", "create", "--driver", "nfs", "other"]).finish().expect_code(125);
    assert_eq!(out(&fixture, &["volume", "ls", "--filter", "name=dat", "--format", "{{.Name}}"]), "data\n");
    assert_eq!(out(&fixture, &["volume", "ls", "--quiet"]), "data\n");
    assert_eq!(out(&fixture, &["volume", "inspect", "--format", "{{.Driver}}", "data"]), "local\n");
    out(&fixture, &["volume", "rm", "--force", "data", "none"]);
}

#[test]
fn networks_that_were_made() {
    let Some(fixture) = Fixture::new() else { return };
    let id = out(&fixture, &["network", "create", "--driver", "bridge", "--label", "of=ours", "made"]);
    assert_eq!(out(&fixture, &["network", "ls", "--quiet", "--no-trunc", "--filter", "type=custom"]), id);
    assert_eq!(out(&fixture, &["network", "ls", "--format", "{{.Name}}", "--filter", "label=of=ours"]), "made\n");
    assert_eq!(out(&fixture, &["network", "inspect", "--format", "{{.Driver}} {{.Labels.of}}", "made"]), "bridge ours\n");
    let twice = fixture.docker(&["network", "create", "made"]).finish().expect_code(1);
    assert_eq!(twice.err(), "Error response from daemon: network with name made already exists\n");
    fixture.docker(&["network", "create", "--driver", "overlay", "other"]).finish().expect_code(125);
    start(&fixture, &["--network", "made"], "sleep 60000");
    assert_eq!(inspected(&fixture, "{{.HostConfig.NetworkMode}}", "it"), "made");
    let used = fixture.docker(&["network", "rm", "made"]).finish().expect_code(1);
    assert!(used.err().contains("has active endpoints"), "{}", used.err());
    out(&fixture, &["rm", "-f", "it"]);
    assert_eq!(out(&fixture, &["network", "rm", "made"]), "made\n");
    fixture.docker(&["network", "rm", "made"]).finish().expect_code(1);
    out(&fixture, &["network", "rm", "--force", "made"]);
    let gone = fixture.docker_probe(&["run", "--rm", "--network", "made"], "exit 0").finish().expect_code(125);
    assert!(gone.err().starts_with("docker: Error response from daemon: network made not found.\n"), "{}", gone.err());
    let gone = fixture.docker_probe(&["create", "--network", "made"], "exit 0").finish().expect_code(125);
    assert!(gone.err().starts_with("Error response from daemon: network made not found.\n"), "{}", gone.err());
    out(&fixture, &["network", "create", "made"]);
    out(&fixture, &["network", "prune", "-f"]);
    assert_eq!(out(&fixture, &["network", "ls", "--format", "{{.Name}}"]), "bridge\nhost\nnone\n");
}

/// Which tests of this file observe which flags of which verbs.
const OBSERVED: &[(&str, &str, &str)] = &[
    ("run", "add-host dns dns-option dns-search", "run_names_of_hosts"),
    ("run", "env env-file mount read-only tmpfs user volume workdir", "run_variables_and_places"),
    ("run", "cpus memory ulimit", "run_limits"),
    ("run", "attach interactive sig-proxy tty", "run_streams"),
    ("run", "expose publish publish-all", "run_ports"),
    ("run", "label label-file stop-signal stop-timeout", "run_names_and_ends"),
    ("run", "log-driver network net platform pull quiet runtime security-opt", "run_images_and_kinds"),
    ("run", "detach name", "docker_runs::in_the_background_with_a_name"),
    ("run", "cidfile", "docker_runs::created_started_attached_and_started_again"),
    ("run", "entrypoint rm", "docker_runs::a_plain_command_keeps_its_streams_and_code"),
    ("run", "restart", "docker_runs::it_is_started_again_as_often_as_was_asked_for"),
    ("run", "volumes-from", "docker_runs::volumes_are_taken_over"),
    ("start", "attach interactive", "attached_again"),
    ("ps", "all filter format last latest no-trunc quiet", "lists_of_runs"),
    ("logs", "follow since tail timestamps until", "attached_again"),
    ("attach", "sig-proxy", "attached_again"),
    ("attach", "no-stdin", "typed_into_it"),
    ("stop", "signal timeout time", "run_names_and_ends"),
    ("restart", "signal timeout time", "run_names_and_ends"),
    ("kill", "signal", "run_names_and_ends"),
    ("rm", "force volumes", "lists_of_runs"),
    ("exec", "detach env env-file interactive tty user workdir", "another_command_with_its_flags"),
    ("cp", "follow-link", "another_command_with_its_flags"),
    ("inspect", "format type", "lists_of_runs"),
    ("version", "format", "volumes_and_what_there_is"),
    ("info", "format", "volumes_and_what_there_is"),
    ("system info", "format", "volumes_and_what_there_is"),
    ("pull", "quiet platform", "images_with_their_flags"),
    ("images", "digests filter format no-trunc quiet", "images_with_their_flags"),
    ("rmi", "force", "images_with_their_flags"),
    ("save", "output platform", "images_with_their_flags"),
    ("load", "input platform quiet", "images_with_their_flags"),
    ("image prune", "all", "images_with_their_flags"),
    ("system prune", "all", "images_with_their_flags"),
    ("image inspect", "format", "images_with_their_flags"),
    ("container inspect", "format", "lists_of_runs"),
    ("volume create", "driver name", "volumes_and_what_there_is"),
    ("volume ls", "filter format quiet", "volumes_and_what_there_is"),
    ("volume rm", "force", "volumes_and_what_there_is"),
    ("volume inspect", "format", "volumes_and_what_there_is"),
    ("network create", "driver label", "networks_that_were_made"),
    ("network rm", "force", "networks_that_were_made"),
    ("network ls", "filter format no-trunc quiet", "networks_that_were_made"),
    ("network inspect", "format", "networks_that_were_made"),
];

/// Flags as help shows them: those that do something, and those that change nothing.
fn accepted(fixture: &Fixture, verb: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let help = out(fixture, &verb.split(' ').chain(["--help"]).collect::<Vec<_>>());
    let flags =
        help.lines().filter_map(|line| Some((line.split_once("--")?.1.split(' ').next()?.to_owned(), line.ends_with("(changes nothing)"))));
    let (nothing, used): (Vec<_>, Vec<_>) = flags.partition(|(_, nothing)| *nothing);
    let names = |flags: Vec<(String, bool)>| flags.into_iter().map(|(name, _)| name).collect();
    (names(used), names(nothing))
}

/// The text of a test; of this file where no other is named.
fn test_text(name: &str) -> String {
    let (file, name) = name.split_once("::").unwrap_or(("docker_flags", name));
    let text = fs::read_to_string(place::project().join(format!("tests/functional/{file}.rs"))).expect("a file of tests");
    let start = text.find(&format!("#[test]\nfn {name}()")).unwrap_or_else(|| panic!("there is no test `{name}` in {file}"));
    let text = &text[start..];
    text[..text.find("\n}\n").map_or(text.len(), |end| end)].to_owned()
}

#[test]
fn every_flag_is_observed_or_listed() {
    let fixture = Fixture::without_sandbox();
    let page = fs::read_to_string(place::project().join("docs/docker.md")).expect("the page");
    let help = out(&fixture, &["--help"]);
    let commands = help.split_once("Commands:\n").expect("a list").1;
    // Those of our own command line, which have pages of their own.
    let ours =
        |line: &&str| ["build", "login", "logout", "push", "trust"].iter().any(|own| line.trim_start().starts_with(&format!("{own} ")));
    let verbs = commands.lines().take_while(|line| !line.is_empty()).filter(|line| !ours(line)).map(|line| {
        let words: Vec<&str> = line.split_whitespace().take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())).collect();
        words.join(" ")
    });
    let mut wrong = Vec::new();
    for verb in verbs {
        let (used, nothing) = accepted(&fixture, &verb);
        // Both make the same of the same table.
        let own = if verb == "create" { "run" } else { &verb };
        let observed: BTreeSet<&str> = OBSERVED.iter().filter(|(of, ..)| *of == own).flat_map(|(_, flags, _)| flags.split(' ')).collect();
        wrong.extend(used.iter().filter(|flag| !observed.contains(flag.as_str())).map(|flag| format!("{verb} --{flag} is not observed")));
        if own == verb {
            wrong.extend(observed.iter().filter(|flag| !used.contains(**flag)).map(|flag| format!("{verb} --{flag} is not there")));
        }
        let section =
            if own == "run" { page.as_str() } else { page.lines().find(|line| line.starts_with(&format!("| `{verb}` | "))).unwrap_or("") };
        wrong.extend(
            nothing.iter().filter(|flag| !section.contains(&format!("`--{flag}`"))).map(|flag| format!("{verb} --{flag} is not listed")),
        );
    }
    for (verb, flags, test) in OBSERVED {
        let text = test_text(test);
        let shorts = [("detach", "\"-d\""), ("restart", "\"--restart\"")];
        for flag in flags.split(' ') {
            let short = shorts.iter().find(|(long, _)| *long == flag).is_some_and(|(_, short)| text.contains(short));
            if !short && !text.contains(&format!("\"--{flag}\"")) && !text.contains(&format!("\"--{flag}=")) {
                wrong.push(format!("{verb} --{flag} is not in {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
