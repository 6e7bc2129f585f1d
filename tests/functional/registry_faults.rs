//! Registries that fail: a real one behind a proxy that cuts, slows, lies, refuses, limits and misleads. An image comes whole, or an error says why not.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tests::Fixture;
use tests::faulty_proxy::{FaultyProxy, Then};
use tests::image::{Image, Packing};
use tests::real_registry::{RealRegistry, Style};
use tests::run::Ran;
use tests::tar::Tar;
use tests::wire::{Reply, Request, Sending};

const LAYER_BYTES: usize = 1 << 20;
/// What the token server takes, as a stored login.
const LOGIN: &str = "dGVzdDpzZWNyZXQ=";
const WRONG_LOGIN: &str = "dGVzdDp3cm9uZw==";

/// A registry with an image of one large layer, which is known by its size.
struct Bench {
    fixture: Fixture,
    registry: RealRegistry,
}

impl Bench {
    fn new() -> Option<Bench> {
        let registry = RealRegistry::start()?;
        let fixture = Fixture::without_sandbox();
        registry.push(&large_image(), "team/app", "1", Style::Docker);
        Some(Bench { fixture, registry })
    }

    fn proxy(&self, decide: impl Fn(&Request, usize) -> Then + Send + Sync + 'static) -> FaultyProxy {
        FaultyProxy::start(self.registry.address(), decide)
    }

    /// Pulls the image through a proxy.
    fn pull(&self, proxy: &FaultyProxy) -> Ran {
        self.pull_with(&[], &format!("{}/team/app:1", proxy.address()))
    }

    fn pull_with(&self, options: &[&str], reference: &str) -> Ran {
        let line = [&["pull", "--registry-retry-delay", "0.002"], options, &[reference]].concat();
        self.fixture.undocked(&line).finish()
    }

    /// A login for a registry in docker's configuration.
    fn store_login(&self, address: &str, login: &str) {
        let docker = self.fixture.path().join("home/.docker");
        fs::create_dir_all(&docker).expect("made");
        fs::write(docker.join("config.json"), json!({"auths": {address: {"auth": login}}}).to_string()).expect("written");
    }

    /// Empties the cache, for the next pull to be a whole one.
    fn forget(&self) {
        self.fixture.undocked(&["prune", "--all"]).finish().expect_code(0);
    }

    fn expect_nothing_kept(&self) {
        for folder in ["v1/images", "v1/tmp"] {
            let left = fs::read_dir(self.fixture.cache().join(folder)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{folder}");
        }
    }
}

/// An image with an incompressible layer.
fn large_image() -> Image {
    let mut state = 0x9e37_79b9_u64;
    let noise: Vec<u8> = (0..LAYER_BYTES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    Image::provided().layer(Tar::new().file("opt/noise", noise), Packing::Plain)
}

fn is_blob(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("/blobs/sha256:")
}

fn range(request: &Request) -> Option<&str> {
    request.headers.get("range").map(String::as_str)
}

/// Cuts the answer to the first request for the large layer.
fn cut_large(reply: Reply) -> Reply {
    if reply.body.len() > LAYER_BYTES { reply.cut_after(LAYER_BYTES / 2) } else { reply }
}

#[test]
fn a_fault_of_the_server_passes() {
    let Some(bench) = Bench::new() else { return };
    for status in [500, 502, 503, 504, 429, 408] {
        let proxy = bench.proxy(move |_, before| if before < 2 { Then::Answer(Reply::new(status, "")) } else { Then::PassOn });
        bench.pull(&proxy).expect_code(0);
        assert!(proxy.requests().len() > 9, "{status}: each request was refused twice");
        bench.forget();
    }
}

#[test]
fn a_connection_that_ends_without_an_answer_is_tried_again() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|_, before| if before < 2 { Then::Close } else { Then::PassOn });
    bench.pull(&proxy).expect_code(0);
}

#[test]
fn a_fault_that_stays_is_told_after_five_tries() {
    let Some(bench) = Bench::new() else { return };
    for (part, wanted) in [("/manifests/1", "tag `1`"), ("/manifests/sha256", "manifest sha256:"), ("/blobs/", "blob sha256:")] {
        let proxy = bench.proxy(
            move |request, _| {
                if request.path.contains(part) { Then::Answer(Reply::new(503, "maintenance")) } else { Then::PassOn }
            },
        );
        let ran = bench.pull(&proxy).expect_code(125).expect_err("503 Service Unavailable");
        assert!(ran.err().contains(wanted), "{}", ran.err());
        assert!(part != "/manifests/1" || proxy.asked(part).len() == 5, "{:?}", proxy.asked(part));
        bench.expect_nothing_kept();
    }
}

#[test]
fn what_is_not_there_is_asked_for_once() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|_, _| Then::PassOn);
    bench.pull_with(&[], &format!("{}/team/app:none", proxy.address())).expect_code(125).expect_err("has no tag `none`");
    assert_eq!(proxy.asked("/manifests/").len(), 1, "{:?}", proxy.asked(""));
    let unknown = Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#);
    let proxy = bench.proxy(
        move |request, _| {
            if request.path.contains("/manifests/sha256") { Then::Answer(unknown.clone()) } else { Then::PassOn }
        },
    );
    bench.pull(&proxy).expect_code(125).expect_err("has no manifest sha256:");
    assert_eq!(proxy.asked("/manifests/sha256").len(), 1);
}

/// In seconds and as a date, which counts from the registry's clock and not from ours.
#[test]
fn retry_after_is_kept_where_it_is_short() {
    let Some(bench) = Bench::new() else { return };
    let date = |reply: Reply| reply.header("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let answers = [
        Reply::new(429, "").header("Retry-After", "0"),
        date(Reply::new(429, "").header("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")),
        date(Reply::new(503, "").header("Retry-After", "Sun, 06 Nov 1994 08:49:36 GMT")),
    ];
    for answer in answers {
        let proxy = bench.proxy(move |_, before| if before == 0 { Then::Answer(answer.clone()) } else { Then::PassOn });
        bench.pull(&proxy).expect_code(0);
    }
    // Nobody waits for an hour.
    for retry_after in ["3600", "Sun, 06 Nov 1994 09:49:37 GMT"] {
        let answer = date(Reply::new(429, "").header("Retry-After", retry_after));
        let proxy = bench.proxy(move |_, _| Then::Answer(answer.clone()));
        bench.pull(&proxy).expect_code(125).expect_err("to be asked again in 3600 s");
        assert_eq!(proxy.requests().len(), 1);
    }
}

#[test]
fn a_limit_is_explained() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, _| {
        if request.method == "HEAD" {
            return Then::PassOn;
        }
        let words = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit"}]}"#;
        let reply = Reply::new(429, words).header("ratelimit-limit", "100;w=21600").header("ratelimit-remaining", "0;w=21600");
        Then::Answer(reply.header("docker-ratelimit-source", "192.0.2.7"))
    });
    let ran = bench.pull(&proxy).expect_code(125);
    for text in
        ["429 TOOMANYREQUESTS: You have reached your limit (limit 100 in 6 h, 0 left, counted for 192.0.2.7)", "undocked login", "--mirror"]
    {
        assert!(ran.err().contains(text), "{text}: {}", ran.err());
    }
    assert_eq!(proxy.asked("/manifests/sha256").len(), 1, "used up for hours: nobody asks again at once");
}

#[test]
fn a_cut_layer_goes_on_where_it_broke_off() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, before| if is_blob(request) && before == 0 { Then::change(cut_large) } else { Then::PassOn });
    bench.pull(&proxy).expect_code(0);
    let ranges: Vec<String> = proxy.requests().iter().filter_map(range).map(str::to_owned).collect();
    assert_eq!(ranges, [format!("bytes={}-", LAYER_BYTES / 2)]);
}

/// Each connection brings a little more, and more often than a request is tried.
#[test]
fn a_layer_may_break_off_as_often_as_it_gets_on() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, _| {
        let cut = |reply: Reply| if reply.body.len() > 128 << 10 { reply.cut_after(100 << 10) } else { reply };
        if is_blob(request) { Then::change(cut) } else { Then::PassOn }
    });
    bench.pull(&proxy).expect_code(0);
    assert!(proxy.requests().iter().filter_map(range).count() > 7, "{:?}", proxy.asked("/blobs/"));
}

#[test]
fn a_layer_that_hardly_gets_on_is_given_up() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, _| {
        let cut = |reply: Reply| if reply.body.len() > 128 << 10 { reply.cut_after(100) } else { reply };
        if is_blob(request) { Then::change(cut) } else { Then::PassOn }
    });
    bench.pull(&proxy).expect_code(125).expect_err("broke off blob sha256:");
    assert_eq!(proxy.requests().iter().filter_map(range).count(), 4);
    bench.expect_nothing_kept();
}

#[test]
fn a_registry_that_ignores_ranges_gives_the_layer_again() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, before| {
        if is_blob(request) && before == 0 {
            return Then::change(cut_large);
        }
        // The proxy forgets the range before it asks.
        if range(request).is_some() { Then::Without("range") } else { Then::PassOn }
    });
    bench.pull(&proxy).expect_code(0);
    assert_eq!(proxy.requests().iter().filter_map(range).count(), 1);
}

/// Another part than the one asked for, of another whole, or of none that is told: the whole is asked for then.
#[test]
fn a_lie_in_content_range_is_not_believed() {
    let Some(bench) = Bench::new() else { return };
    let half = LAYER_BYTES / 2;
    let lies: [fn(usize, usize) -> String; 5] = [
        |start, size| format!("bytes {}-{}/{size}", start - 1, size - 1),
        |start, size| format!("bytes {start}-{}/{}", size - 1, size + 1),
        |start, size| format!("bytes {start}-{}/{size}", size - 2),
        |start, size| format!("bytes {start}-{}/*", size - 1),
        |_, _| "nonsense".to_owned(),
    ];
    for lie in lies {
        let proxy = bench.proxy(move |request, before| match (is_blob(request), range(request)) {
            (true, None) if before == 0 => Then::change(cut_large),
            (true, Some(_)) => Then::change(move |mut reply| {
                let size = half + reply.body.len();
                reply.headers.retain(|(name, _)| name != "content-range");
                // It brings what its header says, to be as convincing as can be.
                reply.body = vec![0; reply.body.len()];
                reply.header("Content-Range", lie(half, size))
            }),
            _ => Then::PassOn,
        });
        bench.pull(&proxy).expect_code(0);
        assert_eq!(proxy.requests().iter().filter_map(range).count(), 1, "{}", lie(1, 2));
        bench.forget();
    }
}

#[test]
fn a_range_that_is_refused_is_no_end() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, before| match (is_blob(request), range(request)) {
        (true, None) if before == 0 => Then::change(cut_large),
        (true, Some(_)) => Then::Answer(Reply::new(416, "")),
        _ => Then::PassOn,
    });
    bench.pull(&proxy).expect_code(0);
}

#[test]
fn a_wrong_byte_in_a_resumed_part_is_found() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, before| match (is_blob(request), range(request)) {
        (true, None) if before == 0 => Then::change(cut_large),
        (true, Some(_)) => Then::change(|mut reply| {
            let middle = reply.body.len() / 2;
            reply.body[middle] ^= 1;
            reply
        }),
        _ => Then::PassOn,
    });
    bench.pull(&proxy).expect_code(125).expect_err("sha256:");
    bench.expect_nothing_kept();
}

#[test]
fn a_slow_registry_is_waited_for() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|_, _| Then::change(|reply| reply.sent(Sending::Pieces(999))));
    bench.pull(&proxy).expect_code(0);
    assert!(proxy.requests().iter().all(|request| range(request).is_none()));
}

/// A body whose length is not told and that ends too early looks like a whole one.
#[test]
fn a_short_body_goes_on() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, before| {
        let shorten = |mut reply: Reply| {
            if reply.body.len() > LAYER_BYTES {
                reply.body.truncate(LAYER_BYTES / 4);
            }
            reply.sent(Sending::Unannounced)
        };
        if is_blob(request) && before == 0 { Then::change(shorten) } else { Then::PassOn }
    });
    bench.pull(&proxy).expect_code(0);
    assert_eq!(proxy.requests().iter().filter_map(range).count(), 1);
}

#[test]
fn a_manifest_of_100_mb_is_not_read() {
    let Some(bench) = Bench::new() else { return };
    for sending in [Sending::Whole, Sending::Unannounced] {
        let proxy = bench.proxy(move |request, _| {
            let huge = || Reply::new(200, vec![b' '; 100 << 20]).sent(sending);
            if request.path.contains("/manifests/sha256") { Then::Answer(huge()) } else { Then::PassOn }
        });
        let reference = format!("{}/team/app:1", proxy.address());
        let ran = bench.fixture.undocked_by_shell(r#"ulimit -d 90000; exec "$0" "$@""#, &["pull", &reference]).finish().expect_code(125);
        assert!(ran.err().contains("the manifest has ") && ran.err().contains("over the 4194304 bytes allowed"), "{}", ran.err());
    }
}

#[test]
fn an_expired_token_is_renewed_in_mid_pull() {
    let Some(bench) = Bench::new() else { return };
    let guarded = bench.registry.with_tokens();
    for status in [400, 401, 403] {
        let before = guarded.token_counts()["anonymous"].as_u64();
        let expired = AtomicUsize::new(0);
        let proxy = FaultyProxy::start(guarded.address(), move |request, _| {
            let first = is_blob(request) && request.headers.contains_key("authorization") && expired.fetch_add(1, Ordering::SeqCst) == 0;
            // The last of them tells nothing of where tokens are to be had, as `public.ecr.aws` does.
            if first { Then::Answer(Reply::new(status, "expired")) } else { Then::PassOn }
        });
        bench.pull(&proxy).expect_code(0);
        bench.forget();
        assert_eq!(guarded.token_counts()["anonymous"].as_u64(), before.map(|before| before + 2), "{status}");
    }
}

/// The cut, and then the token has run out as well.
#[test]
fn a_token_that_expires_while_a_layer_is_cut() {
    let Some(bench) = Bench::new() else { return };
    let guarded = bench.registry.with_tokens();
    let expired = AtomicUsize::new(0);
    let proxy = FaultyProxy::start(guarded.address(), move |request, before| match range(request) {
        Some(_) if expired.fetch_add(1, Ordering::SeqCst) == 0 => Then::Answer(Reply::new(400, "expired")),
        None if is_blob(request) && before < 2 => Then::change(cut_large),
        _ => Then::PassOn,
    });
    bench.pull(&proxy).expect_code(0);
}

#[test]
fn a_stored_login_that_is_refused_is_said_and_left_out() {
    let Some(bench) = Bench::new() else { return };
    let guarded = bench.registry.with_tokens();
    // The token server refuses it; or the registry refuses what it gives for it.
    for (login, refuses) in [(WRONG_LOGIN, false), (LOGIN, true)] {
        let proxy = FaultyProxy::start(guarded.address(), move |request, _| {
            let is_users = request.headers.get("authorization").is_some_and(|token| subject_of(token) == "test");
            if refuses && is_users { Then::Answer(Reply::new(403, "stale")) } else { Then::PassOn }
        });
        bench.store_login(&proxy.address(), login);
        let ran = bench.pull(&proxy).expect_code(0);
        assert_eq!(ran.err().matches("refuses the stored login: trying without it").count(), 1, "{}", ran.err());
        bench.forget();
    }
}

/// Whom a token of the token server's is for.
fn subject_of(authorization: &str) -> String {
    use base64::Engine as _;
    let body = authorization.split('.').nth(1).unwrap_or_default();
    let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    body["sub"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_redirect_to_another_host_takes_no_token_along() {
    let Some(bench) = Bench::new() else { return };
    let guarded = bench.registry.with_tokens();
    let elsewhere = bench.proxy(|_, _| Then::PassOn);
    let target = elsewhere.address();
    let proxy = FaultyProxy::start(guarded.address(), move |request, _| {
        let leads = is_blob(request) && request.headers.contains_key("authorization");
        let reply = || Reply::new(307, "").header("Location", format!("http://{target}{}", request.path));
        if leads { Then::Answer(reply()) } else { Then::PassOn }
    });
    bench.store_login(&proxy.address(), LOGIN);
    bench.pull(&proxy).expect_code(0);
    assert!(!elsewhere.requests().is_empty());
    assert!(elsewhere.requests().iter().all(|request| !request.headers.contains_key("authorization")), "{:?}", elsewhere.requests());
}

/// A host that leads back again gets nothing by it.
#[test]
fn a_redirect_there_and_back_brings_no_token_back() {
    let Some(bench) = Bench::new() else { return };
    let guarded = bench.registry.with_tokens();
    let there = bench.proxy(|request, _| {
        let back = request.path.trim_start_matches("/to/").split_once('/').map(|(host, path)| format!("http://{host}/back/{path}"));
        Then::Answer(Reply::new(307, "").header("Location", back.unwrap_or_default()))
    });
    let target = there.address();
    let proxy = FaultyProxy::start(guarded.address(), move |request, _| {
        if request.path.starts_with("/back/") {
            return Then::Answer(Reply::new(404, ""));
        }
        let front = request.headers.get("host").cloned().unwrap_or_default();
        let reply = || Reply::new(307, "").header("Location", format!("http://{target}/to/{front}{}", request.path));
        if is_blob(request) { Then::Answer(reply()) } else { Then::PassOn }
    });
    bench.pull(&proxy).expect_code(125);
    let back: Vec<Request> = proxy.requests().into_iter().filter(|request| request.path.starts_with("/back/")).collect();
    assert!(!back.is_empty() && back.iter().all(|request| !request.headers.contains_key("authorization")), "{back:?}");
}

#[test]
fn redirects_end() {
    let Some(bench) = Bench::new() else { return };
    for (hops, code) in [(5, 0), (6, 125)] {
        let proxy = bench.proxy(move |request, _| {
            let (path, hop) =
                request.path.split_once("?hop=").map_or((request.path.as_str(), 0), |(path, hop)| (path, hop.parse().unwrap_or(0)));
            let next = Reply::new(302, "").header("Location", format!("{path}?hop={}", hop + 1));
            if is_blob(request) && hop < hops { Then::Answer(next) } else { Then::PassOn }
        });
        let ran = bench.pull(&proxy).expect_code(code);
        assert!(code == 0 || ran.err().contains("too many redirects"), "{}", ran.err());
        bench.forget();
    }
}

/// A registry elsewhere, that is one behind a proxy, leads to this machine, to a cloud's metadata, to plain HTTP, to no HTTP at all.
#[test]
fn redirects_to_where_nobody_should_be_led_are_refused() {
    let Some(bench) = Bench::new() else { return };
    let trap = bench.proxy(|_, _| Then::PassOn);
    for (location, reason) in [
        (format!("http://{}/x", trap.address()), "only a registry on this machine may lead"),
        (
            format!("https://localhost:{}/x", trap.address().rsplit(':').next().unwrap_or_default()),
            "only a registry on this machine may lead",
        ),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "only a registry on this machine may lead"),
        ("http://cdn.test/x".to_owned(), "--insecure-registry cdn.test"),
        ("ftp://cdn.test/x".to_owned(), "neither `https` nor `http`"),
    ] {
        let answer = Reply::new(307, "").header("Location", &location);
        let proxy = bench.proxy(move |request, _| if is_blob(request) { Then::Answer(answer.clone()) } else { Then::PassOn });
        let line =
            ["pull", "--registry-retry-delay", "0.002", "--insecure-registry", "registry.test:5000", "registry.test:5000/team/app:1"];
        let ran = bench.fixture.undocked(&line).env("HTTP_PROXY", format!("http://{}", proxy.address())).finish().expect_code(125);
        assert!(ran.err().contains(reason), "{location}: {}", ran.err());
    }
    assert!(trap.requests().is_empty(), "{:?}", trap.requests());
}

/// The realm of a token is where a password goes.
#[test]
fn a_realm_in_plain_http_or_on_this_machine_gets_no_password() {
    let Some(bench) = Bench::new() else { return };
    let trap = bench.proxy(|_, _| Then::PassOn);
    bench.store_login("registry.test:5000", LOGIN);
    for realm in [format!("http://{}/token", trap.address()), "http://tokens.test/token".to_owned()] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
        let proxy = bench.proxy(move |_, _| Then::Answer(Reply::new(401, "").header("WWW-Authenticate", &challenge)));
        let line = ["pull", "--insecure-registry", "registry.test:5000", "registry.test:5000/team/app:1"];
        let ran = bench.fixture.undocked(&line).env("HTTP_PROXY", format!("http://{}", proxy.address())).finish().expect_code(125);
        assert!(ran.err().contains("which is refused"), "{}", ran.err());
        assert!(proxy.asked("tokens.test").is_empty(), "{:?}", proxy.asked(""));
    }
    assert!(trap.requests().is_empty());
}

#[test]
fn a_tag_is_asked_for_by_head_and_the_rest_by_digest() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|_, _| Then::PassOn);
    bench.pull(&proxy).expect_code(0);
    let asked = proxy.asked("/manifests/");
    assert!(
        asked.len() == 2 && asked[0] == "HEAD /v2/team/app/manifests/1" && asked[1].starts_with("GET /v2/team/app/manifests/sha256:"),
        "{asked:?}"
    );

    // A registry that tells no digest, or knows no HEAD.
    for head in [Reply::new(200, ""), Reply::new(405, "")] {
        let proxy = bench.proxy(move |request, _| if request.method == "HEAD" { Then::Answer(head.clone()) } else { Then::PassOn });
        bench.pull(&proxy).expect_code(0);
        assert!(proxy.asked("").contains(&"GET /v2/team/app/manifests/1".to_owned()), "{:?}", proxy.asked(""));
    }
}

#[test]
fn an_answer_of_the_token_server_without_end_is_not_read() {
    let Some(bench) = Bench::new() else { return };
    for (body, said) in [
        (vec![b' '; 8 << 20], "the answer of the token server has "),
        (b"{}".to_vec(), "no token in the answer"),
        (b"<html>".to_vec(), "no token in the answer"),
        (br#"{"token": "a\r\nX-Evil: 1"}"#.to_vec(), "no token in the answer"),
    ] {
        let proxy = bench.proxy(move |request, _| {
            let front = request.headers.get("host").cloned().unwrap_or_default();
            if request.path.starts_with("/token") {
                return Then::Answer(Reply::new(200, body.clone()));
            }
            Then::Answer(Reply::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"http://{front}/token\"")))
        });
        let ran = bench.pull(&proxy).expect_code(125);
        assert!(ran.err().contains(said), "{said}: {}", ran.err());
    }
}

#[test]
fn a_pull_that_stops_for_good_goes_on_with_the_layers_that_came() {
    let Some(bench) = Bench::new() else { return };
    let proxy = bench.proxy(|request, _| {
        let fail = |reply: Reply| if reply.body.len() > LAYER_BYTES { Reply::new(500, "") } else { reply };
        if is_blob(request) { Then::change(fail) } else { Then::PassOn }
    });
    bench.pull(&proxy).expect_code(125);
    let whole = bench.proxy(|_, _| Then::PassOn);
    bench.pull(&whole).expect_code(0);
}
