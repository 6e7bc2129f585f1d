//! The words of docker's command line: what is wrong is said as docker says it, what is not carried out is refused by name.

use std::fs;
use std::os::unix::fs::symlink;

use tests::image::Image;
use tests::real_registry::RealRegistry;
use tests::run::Run;
use tests::{Fixture, place};

#[test]
fn under_dockers_name_and_behind_it() {
    let fixture = Fixture::without_sandbox();
    let link = fixture.path().join("docker");
    symlink(place::undocked(), &link).expect("a link");
    let version = ["version", "--format", "{{.Server.Os}}"];
    let linked = Run::new(&link).args(version).env("XDG_RUNTIME_DIR", fixture.path().join("run")).finish().expect_code(0);
    assert_eq!(linked.out(), "linux\n");
    assert_eq!(fixture.docker(&version).finish().expect_code(0).out(), "linux\n");
}

#[test]
fn wrong_words() {
    let fixture = Fixture::without_sandbox();
    for (line, code, text) in [
        (
            &["run", "--foo", "x"][..],
            125,
            "unknown flag: --foo\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'docker run --help' for more information\n",
        ),
        (&["ps", "--foo"], 125, "unknown flag: --foo\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n"),
        (&["run", "-z", "x"], 125, "unknown shorthand flag: 'z' in -z\n"),
        (&["run", "--name"], 125, "flag needs an argument: --name\n"),
        (
            &["run"],
            1,
            "docker: 'docker run' requires at least 1 argument\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nSee 'docker run --help' for more information\n",
        ),
        (&["exec", "x"], 1, "docker: 'docker exec' requires at least 2 arguments\n"),
        (&["bogus"], 1, "docker: unknown command: docker bogus\n\nRun 'docker --help' for more information\n"),
        (
            &["stop", "-t", "x", "y"],
            125,
            "invalid argument \"x\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax\n",
        ),
        (&["run", "--rm", "--restart", "always", "x"], 125, "docker: conflicting options: cannot specify both --restart and --rm\n"),
        (&["logs", "none"], 1, "Error response from daemon: No such container: none\n"),
        (&["inspect", "no-such"], 1, "Error: No such object: no-such\n"),
        (&["load", "-i", "/none/such"], 1, "open /none/such: no such file or directory\n"),
        (&["load", "-i", "/proc/self/status"], 1, "Error processing tar file: "),
        (&["build"], 1, "docker: 'docker build' requires 1 argument\n\nUsage:  docker build [OPTIONS] PATH | -\n"),
        (&["build", ".", "x"], 1, "docker: 'docker build' requires 1 argument\n"),
        (&["build", "-t", "BAD NAME", "."], 1, "docker: image reference `BAD NAME`: "),
        (&["login", "-u", "me", "localhost:1"], 1, "docker: `--password-stdin` is missing"),
        (&["volume", "prune", "-f"], 125, "docker: `docker volume prune` is not supported: volumes of runs go with them"),
        (&["build", "--foo", "."], 125, "unknown flag: --foo\n\nUsage:  docker build "),
        (&["build", "no-folder"], 1, "unable to prepare context: path \"no-folder\" not found\n"),
        (
            &["build", "-f", "/none/such", "."],
            1,
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat /none/such: no such file or directory\n",
        ),
        (&["push"], 1, "docker: 'docker push' requires 1 argument\n"),
        (&["help", "nope"], 1, "unknown help topic: nope\n"),
        (&["--context", "other", "ps"], 125, "docker: `docker --context` is not supported: there is no daemon"),
        (
            &["run", "--network", "container:x", "x"],
            125,
            "docker: `--network container:x` is not supported: each run has a network of its own\n",
        ),
        (&["network", "inspect", "none-such"], 1, "Error response from daemon: network none-such not found\n"),
        (&["-H", "tcp://x", "ps"], 125, "docker: `docker -H` is not supported: there is no daemon"),
    ] {
        let ran = fixture.docker(line).finish();
        assert_eq!((ran.code(), ran.err().starts_with(text)), (code, true), "{line:?}: {}", ran.err());
    }
}

/// What is in front of a verb, and the help.
#[test]
fn help_and_the_default_context() {
    let fixture = Fixture::without_sandbox();
    let out = |line: &[&str]| fixture.docker(line).finish().expect_code(0).out();
    let all = out(&["help"]);
    assert_eq!(all, out(&[]));
    for verb in ["build", "push", "login", "logout", "trust", "run", "ps"] {
        assert!(all.contains(&format!("\n  {verb} ")), "{verb}: {all}");
        assert_eq!(out(&["help", verb]), out(&[verb, "--help"]), "{verb}");
    }
    assert_eq!(out(&["help", "volume", "ls"]), out(&["volume", "ls", "--help"]));
    for context in [&["--context", "default"][..], &["--context=default"], &["-c", "default", "-D"]] {
        assert_eq!(out(&[context, &["ps", "-q"]].concat()), "");
        assert_eq!(out(&[context, &["build", "--help"]].concat()), out(&["build", "--help"]));
    }
}

/// One sum stands at the end.
#[test]
fn pruning_in_dockers_words() {
    let fixture = Fixture::without_sandbox();
    assert_eq!(fixture.docker(&["system", "prune", "-f"]).finish().expect_code(0).out(), "Total reclaimed space: 0B\n");
    let manifest = fixture.layout().add("made", &Image::provided());
    fixture.docker(&["pull", "-q", &fixture.image("made")]).finish().expect_code(0);
    fixture.docker(&["network", "create", "mine"]).finish().expect_code(0);
    let pruned = fixture.docker(&["system", "prune", "-af"]).finish().expect_code(0).out();
    let start = format!("Deleted Networks:\nmine\n\nDeleted Images:\ndeleted: {manifest}\n\nTotal reclaimed space: ");
    assert!(pruned.starts_with(&start) && pruned.lines().count() == 7, "{pruned}");
    assert_eq!(fixture.docker(&["image", "prune", "-f"]).finish().expect_code(0).out(), "Total reclaimed space: 0B\n");
    assert_eq!(fixture.docker(&["container", "prune", "-f"]).finish().expect_code(0).out(), "Total reclaimed space: 0B\n");
}

/// Several images at once: the others are done, and what is missing is said.
#[test]
fn images_that_are_not_there() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("made", &Image::provided());
    fixture.docker(&["pull", "-q", &fixture.image("made")]).finish().expect_code(0);
    let missing = |name: &str| format!("Error response from daemon: No such image: {name}\n");
    for (options, code) in [(&[][..], 1), (&["-f"], 0)] {
        fixture.docker(&["tag", &fixture.image("made"), "b1:one"]).finish().expect_code(0);
        let line = [&["rmi"], options, &["nope", "b1:one", "host:5000/no:tag"]].concat();
        let ran = fixture.docker(&line).finish().expect_code(code);
        assert_eq!(ran.out(), "Untagged: b1:one\n");
        assert_eq!(ran.err(), missing("nope:latest") + &missing("host:5000/no:tag"));
    }
    for (line, name) in
        [(&["tag", "nope", "a"][..], "nope:latest"), (&["save", "nope"], "nope"), (&["save", "-o", "x", "nope:1"], "nope:1")]
    {
        assert_eq!(fixture.docker(line).finish().expect_code(1).err(), missing(name), "{line:?}");
    }
}

/// What is wrong with a template or a filter is said whether there is a run or not.
#[test]
fn wrong_templates_and_filters_of_lists() {
    let fixture = Fixture::without_sandbox();
    for (line, text) in [
        (&["ps", "--format", "{{.Names"][..], "failed to parse template: template: :1: unclosed action\n"),
        (&["ps", "--format", "{{nope .Names}}"], "failed to parse template: template: :1: function \"nope\" not defined\n"),
        (&["network", "ls", "--format", "{{.Nope}}"], "failed to execute template: template: executing \"\" at <.Nope>: "),
        (&["ps", "--filter", "status=bogus"], "Error response from daemon: invalid filter 'status=bogus'\n"),
        (&["ps", "--filter", "exited=x"], "Error response from daemon: invalid filter 'exited=x'\n"),
        (&["ps", "--filter", "health=well"], "Error response from daemon: invalid filter 'health=well'\n"),
        (&["ps", "--filter", "since=none"], "Error response from daemon: No such container: none\n"),
        (&["ps", "--filter", "bogus=1"], "Error response from daemon: invalid filter 'bogus'\n"),
    ] {
        let ran = fixture.docker(line).finish().expect_code(1);
        assert!(ran.err().starts_with(text), "{line:?}: {}", ran.err());
    }
    fixture.docker(&["ps", "-q", "--filter", "status=dead", "--filter", "exited=1"]).finish().expect_code(0);
    let heading = fixture.docker(&["ps", "--format", "table {{.Label \"com.my-app\"}}"]).finish().expect_code(0);
    assert_eq!(heading.out(), "my app\n");
    fixture.layout().add("made", &Image::provided());
    fixture.docker(&["pull", "-q", &fixture.image("made")]).finish().expect_code(0);
    fixture.docker(&["tag", &fixture.image("made"), "made:latest"]).finish().expect_code(0);
    let shown = fixture.docker(&["images", "--format", r#"{{slice .Tag 0 4}} {{printf "%s:%s" .Repository .Tag}}"#, "made"]).finish();
    assert_eq!(shown.expect_code(0).out(), "late made:latest\n");
}

/// What tools ask for is there in all cases, and said as docker says it.
#[test]
fn fields_and_filters_that_tools_ask_for() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("made", &Image::provided());
    let image = fixture.image("made");
    for (name, options) in
        [("web", &["--stop-timeout", "3", "--stop-signal", "USR1", "--dns", "192.0.2.1"][..]), ("web2", &[]), ("my-web", &[])]
    {
        fixture.docker(&["create", "--name", name]).args(options).arg(&image).finish().expect_code(0);
    }
    for (format, shown) in [
        (
            "{{.HostConfig.LogConfig.Type}} {{.HostConfig.Dns}} {{json .HostConfig.CapAdd}} {{.HostConfig.ShmSize}}",
            "json-file [192.0.2.1] null 67108864",
        ),
        ("{{.Config.StopSignal}} {{.Config.StopTimeout}} {{.Config.Domainname}}|{{.Config.AttachStdout}}", "SIGUSR1 3 |false"),
        ("{{.NetworkSettings.MacAddress}}{{range .NetworkSettings.Networks}}{{.EndpointID}}{{.IPPrefixLen}}{{end}}", "0"),
        ("{{.AppArmorProfile}}{{.GraphDriver.Name}}{{if .ExecIDs}}some{{end}}", "undocked"),
        ("{{if lt .State.ExitCode 1}}{{if ge .RestartCount 0}}{{pad .State.Status 1 2}}{{end}}{{end}}|", " created  |"),
    ] {
        let ran = fixture.docker(&["inspect", "-f", format, "web"]).finish().expect_code(0);
        assert_eq!(ran.out(), format!("{shown}\n"), "{format}");
    }
    let of_image = ["inspect", "-f", "{{.Config.User}}|{{json .Config.Volumes}}|{{.DockerVersion}}|{{.Author}}|", image.as_str()];
    assert!(fixture.docker(&of_image).finish().expect_code(0).out().ends_with("|null|||\n"));
    fixture.docker(&["tag", &image, "made"]).finish().expect_code(0);
    let digests = fixture.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", "made"]).finish().expect_code(0).out();
    assert!(digests.starts_with("made@sha256:"), "{digests}");
    assert_eq!(fixture.docker(&["version", "-f", "{{.Server.APIVersion}}"]).finish().expect_code(0).out(), "1.50\n");
    fixture.docker(&["inspect", "-f", "{{.Name", "web"]).finish().expect_code(64);
    for (filter, names) in [
        ("name=web", "my-web web2 web "),
        ("name=^web$", "web "),
        ("name=^/web", "web2 web "),
        ("name=web$", "my-web web "),
        ("since=web", "my-web web2 "),
        ("before=web2", "web "),
        ("health=none", "my-web web2 web "),
        ("is-task=true", ""),
    ] {
        let ran = fixture.docker(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]).finish().expect_code(0);
        assert_eq!(ran.out().replace('\n', " "), names, "{filter}");
    }
    // One that is not there need not be removed.
    let ran = fixture.docker(&["rm", "-f", "none", "web"]).finish().expect_code(0);
    assert_eq!((ran.out().as_str(), ran.err().as_str()), ("web\n", "Error response from daemon: No such container: none\n"));
    for (until, code) in [("2001-02-03", 0), ("2001-02-03T04:05", 0), ("2001-02-03T04:05:06", 0), ("2001-02", 1)] {
        fixture.docker(&["logs", "--until", until, "web2"]).finish().expect_code(code);
    }
    fixture.docker(&["create", "--stop-signal", "NONE", &image]).finish().expect_code(125);
    // An empty name is none, as scripts give it.
    fixture.docker(&["create", "--name", "", &image]).finish().expect_code(0);
}

#[test]
fn what_is_not_carried_out_is_refused_by_name() {
    let fixture = Fixture::without_sandbox();
    for line in [
        &["run", "--gpus", "all", "x"][..],
        &["run", "--privileged", "x"],
        &["run", "--device=/dev/kvm", "x"],
        &["create", "--gpus", "all", "x"],
    ] {
        let ran = fixture.docker(line).finish().expect_code(125);
        let option = line[1].split('=').next().unwrap_or_default();
        assert!(ran.err().contains(&format!("`docker {} {option}` is not supported: ", line[0])), "{}", ran.err());
    }
    for line in [
        &["commit", "x"][..],
        &["buildx", "ls"],
        &["context", "ls"],
        &["compose", "up"],
        &["network", "connect", "x", "y"],
        &["swarm", "init"],
    ] {
        let ran = fixture.docker(line).finish().expect_code(125);
        assert!(ran.err().contains("is not supported: "), "{}", ran.err());
    }
}

#[test]
fn volumes_by_name() {
    let fixture = Fixture::without_sandbox();
    let out = |line: &[&str]| fixture.docker(line).finish().expect_code(0).out();
    assert_eq!(out(&["volume", "create", "data"]), "data\n");
    assert_eq!(out(&["volume", "create"]).trim().len(), 64);
    assert_eq!(out(&["volume", "ls", "-q", "--filter", "name=data"]), "data\n");
    let folder = out(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
    assert!(fs::metadata(folder.trim()).is_ok_and(|found| found.is_dir()));
    assert_eq!(out(&["volume", "rm", "data"]), "data\n");
    let gone = fixture.docker(&["volume", "rm", "data"]).finish().expect_code(1);
    assert_eq!(gone.err(), "Error response from daemon: get data: no such volume\n");
}

#[test]
fn networks_that_are_asked_for() {
    let fixture = Fixture::without_sandbox();
    let gateway =
        fixture.docker(&["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]).finish().expect_code(0);
    assert!(gateway.out().trim().parse::<std::net::IpAddr>().is_ok(), "{}", gateway.out());
    let names = fixture.docker(&["network", "ls", "--format", "{{.Name}}"]).finish().expect_code(0);
    assert_eq!(names.out(), "bridge\nhost\nnone\n");
}

/// Who reads the page knows of every option what becomes of it.
#[test]
fn the_page_lists_every_option() {
    let page = fs::read_to_string(place::project().join("docs/docker.md")).expect("the page");
    let table = fs::read_to_string(place::project().join("runner/src/cli/docker/run_flags.rs")).expect("the table");
    let options = table.lines().filter_map(|line| {
        let line = line.trim();
        let rest = ["flag(\"", "without_effect(\"", "refused(\"", "Flag { long: \""].iter().find_map(|start| line.strip_prefix(start))?;
        rest.split('"').next()
    });
    let missing: Vec<_> = options.filter(|option| !page.contains(&format!("`--{option}`"))).collect();
    assert!(missing.is_empty(), "docs/docker.md lacks {missing:?}");
}

/// Verbs that are those of our own command line.
#[test]
fn login_push_and_logout() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("made", &Image::provided());
    let Some(open) = RealRegistry::start() else { return };
    let registry = open.with_tokens();
    let name = format!("{}/my/made:1", registry.address());
    let out = |line: &[&str]| fixture.docker(line).finish().expect_code(0).out();
    out(&["pull", "-q", &fixture.image("made")]);
    out(&["tag", &fixture.image("made"), &name]);
    let push = || fixture.docker(&["push", &name]).finish();
    assert_ne!(push().code(), 0);
    let login = ["login", "--username", "test", "--password-stdin", registry.address()];
    let said = fixture.docker(&login).stdin("secret").finish().expect_code(0);
    assert!(said.out().contains("Login Succeeded") || said.err().contains("Login Succeeded"), "{} {}", said.out(), said.err());
    push().expect_code(0);
    out(&["image", "push", "--quiet", &name]);
    out(&["rmi", &name]);
    out(&["pull", "-q", &name]);
    out(&["logout", registry.address()]);
    assert_ne!(fixture.docker(&["pull", "-q", &format!("{}/my/other:1", registry.address())]).finish().code(), 0);
}
