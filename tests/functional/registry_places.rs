//! Where registries are and by what they are reached: mirrors, proxies, authorities of one's own, logins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::faulty_proxy::{FaultyProxy, Then};
use tests::image::{Image, Packing};
use tests::real_registry::{RealRegistry, Style};
use tests::run::{Ran, Run};
use tests::tar::Tar;
use tests::tls::{Authority, Lasting, TunnelProxy};
use tests::wire::Reply;
use tests::{Fixture, skip};

/// A proxy that is not there: what should stay on this machine does not get out by mistake.
const NOWHERE: &str = "http://127.0.0.1:9";

fn image(text: &str) -> Image {
    Image::provided().layer(Tar::new().file("opt/text", text), Packing::Gzip)
}

/// A pull that has no waits, and no way out.
fn pull(fixture: &Fixture, options: &[&str], reference: &str) -> Run {
    let line = [&["pull", "--registry-retry-delay", "0.002"], options, &[reference]].concat();
    fixture.undocked(&line).env("HTTPS_PROXY", NOWHERE).env("HTTP_PROXY", NOWHERE)
}

fn write(fixture: &Fixture, path: &str, text: impl ToString) -> PathBuf {
    let path = fixture.path().join("home").join(path);
    fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("made");
    fs::write(&path, text.to_string()).expect("written");
    path
}

fn config_of(fixture: &Fixture) -> Value {
    serde_json::from_slice(&fs::read(fixture.path().join("home/.docker/config.json")).expect("there")).expect("JSON")
}

#[test]
fn a_mirror_is_asked_in_place_of_docker_hub() {
    let Some(registry) = RealRegistry::start() else { return };
    let fixture = Fixture::without_sandbox();
    registry.push(&image("1"), "hub/lambci/lambda", "x", Style::Docker);
    let mirror = format!("http://{}/hub", registry.address());
    let pulled = pull(&fixture, &["--mirror", &mirror], "lambci/lambda:x").finish().expect_code(0);
    assert!(fixture.undocked(&["images"]).finish().out().contains("lambci/lambda"), "it has the name that was asked for");
    assert!(pulled.out().starts_with("sha256:"));
    // Only the registries that are named have mirrors.
    pull(&fixture, &["--mirror", &format!("public.ecr.aws={mirror}")], "lambci/lambda:y").finish().expect_code(125).expect_err("docker.io");
}

/// One is not there, one fails, one lacks the image, one has a false one: the registry itself has it.
#[test]
fn mirrors_that_fail_are_said_and_passed_over() {
    let Some(registry) = RealRegistry::start() else { return };
    let Some(empty) = RealRegistry::start() else { return };
    let fixture = Fixture::without_sandbox();
    let reference = registry.push(&image("1"), "team/app", "1", Style::Docker);
    let failing = FaultyProxy::start(registry.address(), |_, _| Then::Answer(Reply::new(503, "")));
    let lying = FaultyProxy::start(registry.address(), |request, _| {
        if request.method == "GET" { Then::change(|reply| Reply { body: b"{}".to_vec(), ..reply }) } else { Then::PassOn }
    });
    let places = ["127.0.0.1:9".to_owned(), failing.address(), empty.address().to_owned(), lying.address()];
    let mirrors = places.iter().map(|place| format!("--mirror={}={place}", registry.address())).collect::<Vec<_>>();
    let options: Vec<&str> = mirrors.iter().map(String::as_str).collect();
    let ran = pull(&fixture, &options, &reference).finish().expect_code(0);
    for place in &places {
        assert!(ran.err().contains(&format!("mirror `{place}`")), "{place}: {}", ran.err());
    }
    assert_eq!(failing.requests().len(), 5, "it is not asked again: {:?}", failing.asked(""));
}

#[test]
fn a_layer_that_a_mirror_breaks_off_goes_on_elsewhere() {
    let Some(registry) = RealRegistry::start() else { return };
    let fixture = Fixture::without_sandbox();
    let noise: String = (0..100_000).map(|n: u32| n.wrapping_mul(2_654_435_761).to_string()).collect();
    let large = Image::provided().layer(Tar::new().file("opt/noise", noise), Packing::Plain);
    let direct = registry.push(&large, "team/app", "1", Style::Docker);
    let front = FaultyProxy::start(registry.address(), |_, _| Then::PassOn);
    let mirror = FaultyProxy::start(registry.address(), |request, before| {
        let is_large = |reply: &Reply| reply.body.len() > 500_000;
        match request.path.contains("/blobs/") {
            true if before == 0 => Then::change(move |reply| if is_large(&reply) { reply.cut_after(300_000) } else { reply }),
            true => Then::Close,
            false => Then::PassOn,
        }
    });
    let reference = direct.replace(registry.address(), &front.address());
    let option = format!("--mirror={}={}", front.address(), mirror.address());
    let ran = pull(&fixture, &[&option], &reference).finish().expect_code(0);
    assert!(ran.err().contains("going on at"), "{}", ran.err());
    let range = front.requests().iter().find_map(|request| request.headers.get("range").cloned());
    assert_eq!(range.as_deref(), Some("bytes=300000-"), "{:?}", front.requests());
}

#[test]
fn registries_conf_of_the_user_is_read() {
    let Some(registry) = RealRegistry::start() else { return };
    let fixture = Fixture::without_sandbox();
    registry.push(&image("1"), "lambci/lambda", "x", Style::Docker);
    registry.push(&image("2"), "moved/app", "x", Style::Docker);
    let address = registry.address();
    write(
        &fixture,
        ".config/containers/registries.conf",
        format!(
            "unqualified-search-registries = [\"quay.io\"]\n\
             [[registry]]\nprefix = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{address}\"\n\
             [[registry]]\nprefix = \"old.test/team\"\nlocation = \"{address}/moved\"\n"
        ),
    );
    write(&fixture, ".config/containers/registries.conf.d/50-blocked.conf", "[[registry]]\nprefix = \"*.blocked.test\"\nblocked = true\n");
    for reference in ["lambci/lambda:x", "old.test/team/app:x"] {
        pull(&fixture, &[], reference).finish().expect_code(0);
    }
    let ran = pull(&fixture, &[], "a.blocked.test/x").finish().expect_code(125);
    assert!(ran.err().contains("50-blocked.conf") && ran.err().contains("hint: "), "{}", ran.err());

    // One that makes no sense may have forbidden something.
    let broken = write(&fixture, "broken.conf", "[[registry]");
    let ran = pull(&fixture, &[], "lambci/lambda:x").env("CONTAINERS_REGISTRIES_CONF", &broken).finish().expect_code(125);
    assert!(ran.err().contains("broken.conf"), "{}", ran.err());
}

#[test]
fn a_mirror_that_is_no_place_is_wrong_usage() {
    let fixture = Fixture::without_sandbox();
    for mirror in ["", "mirror", "ftp://mirror.test", "docker.io=", "mirror.test/Upper"] {
        let ran = pull(&fixture, &["--mirror", mirror], "lambci/lambda:x").finish().expect_code(2);
        assert!(ran.err().contains("hint: "), "{mirror}: {}", ran.err());
    }
}

/// A registry `registry.test` that speaks TLS, which only a proxy finds.
struct Tls {
    fixture: Fixture,
    authority: Authority,
    proxy: TunnelProxy,
    _registry: RealRegistry,
    plain: RealRegistry,
    address: String,
}

impl Tls {
    fn new(lasting: Lasting) -> Option<Tls> {
        if !skip::has_program("openssl") {
            skip::skip(skip::Lack::Providable, "openssl is not installed (tests/images/setup.sh ci)");
            return None;
        }
        let plain = RealRegistry::start()?;
        plain.push(&image("1"), "team/app", "1", Style::Docker);
        let fixture = Fixture::without_sandbox();
        let authority = Authority::create(fixture.path());
        let certificate = authority.certificate("registry.test", lasting);
        let registry = plain.with_tls(&certificate.certificate, &certificate.key, None);
        let proxy = TunnelProxy::start(registry.address());
        let address = registry.address().to_owned();
        Some(Tls { fixture, authority, proxy, _registry: registry, plain, address })
    }

    fn pull(&self, options: &[&str], reference: &str) -> Run {
        pull(&self.fixture, options, reference).env("HTTPS_PROXY", format!("http://{}", self.proxy.address()))
    }

    fn pull_trusting(&self, reference: &str) -> Run {
        self.pull(&["--ca", &self.authority.file().display().to_string()], reference)
    }
}

#[test]
fn https_goes_through_a_proxy_with_an_authority_of_ones_own() {
    let Some(tls) = Tls::new(Lasting::Now) else { return };
    tls.pull_trusting("registry.test/team/app:1").finish().expect_code(0);
    assert!(tls.proxy.asked().iter().all(|line| line.starts_with("CONNECT registry.test:443 ")), "{:?}", tls.proxy.asked());

    // Nobody trusts it without, and that is said with what helps.
    let ran = tls.pull(&[], "registry.test/team/app:1").finish().expect_code(125);
    assert!(ran.err().contains("UnknownIssuer") && ran.err().contains("--ca FILE"), "{}", ran.err());
    // One more place each.
    let authority = tls.authority.file();
    tls.pull(&[], "registry.test/team/app:1").env("SSL_CERT_FILE", authority).finish().expect_code(0);
    let folder = tls.fixture.path().join("home/.config/containers/certs.d/registry.test");
    fs::create_dir_all(&folder).expect("made");
    fs::copy(authority, folder.join("ca.crt")).expect("copied");
    tls.pull(&[], "registry.test/team/app:1").finish().expect_code(0);
    // It counts for that registry alone.
    tls.pull(&[], "other.test/team/app:1").finish().expect_code(125);
    fs::write(folder.join("ca.crt"), "no certificate").expect("written");
    tls.pull(&[], "registry.test/team/app:1").finish().expect_code(125).expect_err("certs.d/registry.test/ca.crt");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let Some(tls) = Tls::new(Lasting::Now) else { return };
    let ran = tls.pull_trusting("other.test/team/app:1").finish().expect_code(125);
    assert!(ran.err().contains("NotValidForName") || ran.err().contains("not valid for name"), "{}", ran.err());
}

/// As where a machine's clock is wrong.
#[test]
fn a_certificate_out_of_its_time_is_told_with_the_clock() {
    for lasting in [Lasting::Later, Lasting::Before] {
        let Some(tls) = Tls::new(lasting) else { return };
        let ran = tls.pull_trusting("registry.test/team/app:1").finish().expect_code(125);
        assert!(ran.err().contains("this machine's clock says 2"), "{lasting:?}: {}", ran.err());
    }
}

#[test]
fn a_registry_that_wants_our_certificate_gets_it() {
    let Some(tls) = Tls::new(Lasting::Now) else { return };
    let ours = tls.authority.certificate("client.test", Lasting::Now);
    let theirs = tls.authority.certificate("registry.test", Lasting::Now);
    let strict = tls.plain.with_tls(&theirs.certificate, &theirs.key, Some(tls.authority.file()));
    let proxy = TunnelProxy::start(strict.address());
    let pull = || {
        let run = tls.pull_trusting("registry.test/team/app:1").env("HTTPS_PROXY", format!("http://{}", proxy.address()));
        run.finish()
    };
    pull().expect_code(125);
    let folder = tls.fixture.path().join("home/.config/containers/certs.d/registry.test");
    fs::create_dir_all(&folder).expect("made");
    fs::copy(&ours.certificate, folder.join("client.cert")).expect("copied");
    pull().expect_code(125).expect_err("client.key");
    fs::copy(&ours.key, folder.join("client.key")).expect("copied");
    pull().expect_code(0);
}

#[test]
fn a_registry_on_loopback_may_speak_tls() {
    let Some(tls) = Tls::new(Lasting::Now) else { return };
    let reference = format!("{}/team/app:1", tls.address.replace("127.0.0.1", "localhost"));
    tls.pull_trusting(&reference).finish().expect_code(0);
    assert!(tls.proxy.asked().is_empty(), "loopback is reached directly: {:?}", tls.proxy.asked());
}

#[test]
fn no_proxy_names_what_is_reached_directly() {
    let Some(tls) = Tls::new(Lasting::Now) else { return };
    for (no_proxy, goes_through) in [("registry.test", false), (".test", false), ("*", false), ("other.test,192.0.2.0/24", true)] {
        let before = tls.proxy.asked().len();
        let ran = tls.pull_trusting("registry.test/team/app:1").env("NO_PROXY", no_proxy).finish();
        assert_eq!((ran.code(), tls.proxy.asked().len() > before), if goes_through { (0, true) } else { (125, false) }, "{no_proxy}");
    }
}

#[test]
fn plain_http_goes_through_a_proxy_too() {
    let Some(registry) = RealRegistry::start() else { return };
    let fixture = Fixture::without_sandbox();
    registry.push(&image("1"), "team/app", "1", Style::Docker);
    let proxy = FaultyProxy::start(registry.address(), |_, _| Then::PassOn);
    let run = pull(&fixture, &["--insecure-registry", "registry.test:5000"], "registry.test:5000/team/app:1");
    run.env("HTTP_PROXY", format!("http://{}", proxy.address())).finish().expect_code(0);
    assert!(proxy.requests().iter().all(|request| request.path.starts_with("http://registry.test:5000/v2/")), "{:?}", proxy.asked(""));
}

#[test]
fn a_proxy_that_is_none_is_told_without_its_password() {
    let fixture = Fixture::without_sandbox();
    let run = pull(&fixture, &[], "registry.test/team/app:1").env("HTTPS_PROXY", "nonsense://user:geheim@proxy.test:3128");
    let ran = run.finish().expect_code(125);
    assert!(ran.err().contains("HTTPS_PROXY") && !ran.err().contains("geheim"), "{}", ran.err());
}

fn login(fixture: &Fixture, registry: &str, user: &str, password: &str) -> Ran {
    let line = ["login", "--registry-retry-delay", "0.002", "-u", user, "--password-stdin", registry];
    fixture.undocked(&line).stdin(format!("{password}\n")).finish()
}

#[test]
fn login_and_logout() {
    let Some(registry) = RealRegistry::start() else { return };
    let guarded = registry.with_tokens();
    let fixture = Fixture::without_sandbox();
    registry.push(&image("1"), "team/app", "1", Style::Docker);
    let strange = json!({"auths": {"other.test": {"auth": "eDp5"}}, "detachKeys": "ctrl-z"});
    let file = write(&fixture, ".docker/config.json", &strange);
    let wrong = login(&fixture, guarded.address(), "test", "wrong").expect_code(125);
    assert!(wrong.err().contains("does not take the login") && wrong.err().contains("hint: "), "{}", wrong.err());
    assert_eq!(config_of(&fixture), strange);

    let right = login(&fixture, guarded.address(), "test", "secret").expect_code(0);
    assert_eq!(right.out(), "Login Succeeded\n");
    assert!(right.err().contains("unencrypted"), "{}", right.err());
    let config = config_of(&fixture);
    assert_eq!(config["auths"][guarded.address()]["auth"], "dGVzdDpzZWNyZXQ=");
    assert_eq!((&config["auths"]["other.test"], &config["detachKeys"]), (&strange["auths"]["other.test"], &strange["detachKeys"]));
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);

    let before = guarded.token_counts()["user"].as_u64();
    pull(&fixture, &[], &format!("{}/team/app:1", guarded.address())).finish().expect_code(0);
    assert!(guarded.token_counts()["user"].as_u64() > before);

    let out = fixture.undocked(&["logout", guarded.address()]).finish().expect_code(0).out();
    assert_eq!(out, format!("Removing login credentials for {}\n", guarded.address()));
    assert_eq!(config_of(&fixture), strange);
    let out = fixture.undocked(&["logout", guarded.address()]).finish().expect_code(0).out();
    assert_eq!(out, format!("Not logged in to {}\n", guarded.address()));
}

#[test]
fn a_login_that_says_too_little_is_wrong_usage() {
    let fixture = Fixture::without_sandbox();
    for line in
        [&["login"][..], &["login", "-u", "x"], &["login", "--password-stdin"], &["login", "-u", "x", "-p", "y", "--password-stdin"]]
    {
        fixture.undocked(line).finish().expect_code(2);
    }
    let no_registry = fixture.undocked(&["login", "-u", "x", "-p", "y", "Not A Registry"]).finish().expect_code(2);
    assert!(no_registry.err().contains("hint: "), "{}", no_registry.err());
    fixture.undocked(&["login", "-u", "x", "--password-stdin", "registry.test"]).stdin("\n").finish().expect_code(2);
}

/// A credential helper, as a script in a folder of the fixture's.
fn helper(fixture: &Fixture, script: &str) -> String {
    let path = write(fixture, "bin/docker-credential-safe", format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    write(fixture, ".docker/config.json", json!({"credsStore": "safe"}));
    format!("{}:/usr/bin:/bin", path.parent().expect("a folder").display())
}

#[test]
fn a_helper_keeps_and_gives_the_login() {
    let Some(registry) = RealRegistry::start() else { return };
    let guarded = registry.with_tokens();
    let fixture = Fixture::without_sandbox();
    registry.push(&image("1"), "team/app", "1", Style::Docker);
    let search_path = helper(&fixture, r#"case $1 in store) cat >"$HOME/kept";; get) cat "$HOME/kept";; erase) rm "$HOME/kept";; esac"#);
    let line = ["login", "-u", "test", "--password-stdin", guarded.address()];
    fixture.undocked(&line).stdin("secret").env("PATH", &search_path).finish().expect_code(0);
    assert_eq!(config_of(&fixture), json!({"credsStore": "safe", "auths": {guarded.address(): {}}}));
    let before = guarded.token_counts()["user"].as_u64();
    pull(&fixture, &[], &format!("{}/team/app:1", guarded.address())).env("PATH", &search_path).finish().expect_code(0);
    assert!(guarded.token_counts()["user"].as_u64() > before);
    fixture.undocked(&["logout", guarded.address()]).env("PATH", &search_path).finish().expect_code(0);
    assert!(!fixture.path().join("home/kept").exists());
}

#[test]
fn logins_are_looked_for_where_podman_does() {
    let Some(registry) = RealRegistry::start() else { return };
    let guarded = registry.with_tokens();
    let fixture = Fixture::without_sandbox();
    registry.push(&image("1"), "team/app", "1", Style::Docker);
    let reference = format!("{}/team/app:1", guarded.address());
    let stored = |word: &str| json!({"auths": {guarded.address(): {"auth": word}}});
    // A wrong one in each later place shows that it was not looked at.
    let (right, wrong) = (stored("dGVzdDpzZWNyZXQ="), stored("dGVzdDp3cm9uZw=="));
    let places = [".auth.json", "run/containers/auth.json", ".config/containers/auth.json", ".docker/config.json"];
    for (at, place) in places.iter().enumerate() {
        for later in &places[at + 1..] {
            write(&fixture, later, &wrong);
        }
        let file = write(&fixture, place, &right);
        let home = fixture.path().join("home");
        let refused = guarded.token_counts()["refused"].as_u64();
        let run =
            pull(&fixture, &[], &reference).env("XDG_RUNTIME_DIR", home.join("run")).env("REGISTRY_AUTH_FILE", home.join(".auth.json"));
        let ran = run.finish().expect_code(0);
        assert_eq!(guarded.token_counts()["refused"].as_u64(), refused, "{place}: {}", ran.err());
        fs::remove_file(file).expect("removed");
    }
    // One that comes before what `undocked login` writes is told.
    write(&fixture, ".config/containers/auth.json", &wrong);
    let ran = login(&fixture, guarded.address(), "test", "secret").expect_code(0);
    assert!(ran.err().contains("another login"), "{}", ran.err());
    fs::remove_file(fixture.path().join("home/.config/containers/auth.json")).expect("removed");
    // What cannot be read is a warning.
    write(&fixture, ".docker/config.json", "{");
    let ran = pull(&fixture, &[], &reference).finish().expect_code(0);
    assert!(ran.err().contains("config.json` is malformed"), "{}", ran.err());
}
