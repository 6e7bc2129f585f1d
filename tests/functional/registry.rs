//! Pulling from registries: a real one, plain and behind tokens, and ones that do it wrongly.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tests::broken_registry::BrokenRegistry;
use tests::image::{Image, Packing};
use tests::real_registry::{RealRegistry, Style};
use tests::tar::Tar;
use tests::wire::{CuttingProxy, Reply};
use tests::{Fixture, Run};

/// An image with an incompressible layer of some size, so that there is a middle to break off in.
fn image_with_layer_of(bytes: usize) -> Image {
    let mut state = 0x9e37_79b9_u64;
    let noise: Vec<u8> = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    Image::provided().layer(Tar::new().file("opt/noise", noise), Packing::Gzip)
}

/// A run of `reference` that answers with what it sees of the image.
fn run(fixture: &Fixture, options: &[&str], reference: &str) -> Run {
    fixture.script("read last /opt/last\nread first /opt/first\nnext\nrespond-notes\nnext");
    fixture.run_image(reference, options, &[])
}

/// Two layers, the upper one packed in another way.
fn two_layers(upper: Packing) -> Image {
    Image::provided()
        .layer(Tar::new().file("opt/first", "1").file("opt/last", "hidden"), Packing::Gzip)
        .layer(Tar::new().file("opt/last", "2"), upper)
}

#[test]
fn every_manifest_kind_and_compression_is_pulled_from_a_real_registry() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    let cases = [
        (Style::Docker, Packing::Gzip),
        (Style::DockerList, Packing::GzipMembers),
        (Style::OciIndex, Packing::Zstd),
        (Style::OciIndex, Packing::Plain),
    ];
    for (number, (style, packing)) in cases.into_iter().enumerate() {
        let reference = registry.push(&two_layers(packing), "some/where", &format!("v{number}"), style);
        let seen = run(&fixture, &[], &reference).finish().expect_code(0).json();
        assert_eq!((&seen["first"], &seen["last"]), (&json!("1"), &json!("2")), "{reference}");
    }
    fixture.expect_nothing_left();
}

#[test]
fn a_cached_image_needs_no_registry() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    let reference = registry.push(&two_layers(Packing::Gzip), "lambci/lambda", "provided", Style::Docker);
    let first = run(&fixture, &[], &reference).finish().expect_code(0).json();
    drop(registry);
    let second = run(&fixture, &[], &reference).finish().expect_code(0).json();
    assert_eq!(first, second);
    run(&fixture, &["--pull", "never"], &reference).finish().expect_code(0);
    run(&fixture, &["--pull", "always"], &reference).finish().expect_code(125);
}

#[test]
fn pull_always_sees_that_a_tag_has_moved_and_missing_does_not() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    let with = |text: &str| Image::provided().layer(Tar::new().file("opt/last", text), Packing::Gzip);
    let reference = registry.push(&with("old"), "moving", "tag", Style::Docker);
    let last = |options: &[&str]| run(&fixture, options, &reference).finish().expect_code(0).json()["last"].clone();
    assert_eq!(last(&[]), "old");
    registry.push(&with("new"), "moving", "tag", Style::Docker);
    assert_eq!(last(&[]), "old");
    assert_eq!(last(&["--pull", "always"]), "new");
    assert_eq!(last(&[]), "new");
}

#[test]
fn a_registry_behind_tokens_gives_them_to_the_anonymous() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    registry.push(&two_layers(Packing::Gzip), "team/app", "1", Style::OciIndex);
    let guarded = registry.with_tokens();
    let reference = format!("{}/team/app:1", guarded.address());
    let seen = run(&fixture, &[], &reference).finish().expect_code(0).json();
    assert_eq!(seen["last"], "2");
    let counts = guarded.token_counts();
    assert!(counts["anonymous"].as_u64() > Some(0) && counts["user"] == 0, "{counts}");
}

#[test]
fn a_login_is_read_from_dockers_configuration() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    registry.push(&two_layers(Packing::Gzip), "team/app", "1", Style::Docker);
    let guarded = registry.with_tokens();
    let reference = format!("{}/team/app:1", guarded.address());
    let docker = fixture.path().join("home/.docker");
    fs::create_dir(&docker).expect("made");
    // test:secret
    let login = |word: &str| json!({"auths": {guarded.address(): {"auth": word}}}).to_string();
    fs::write(docker.join("config.json"), login("dGVzdDpzZWNyZXQ=")).expect("written");
    run(&fixture, &[], &reference).finish().expect_code(0);
    assert!(guarded.token_counts()["user"].as_u64() > Some(0), "{}", guarded.token_counts());

    // A stored login that is no longer good must not stand in the way of an anonymous pull.
    fs::write(docker.join("config.json"), login("dGVzdDp3cm9uZw==")).expect("written");
    let before = guarded.token_counts()["anonymous"].as_u64();
    run(&fixture, &["--pull", "always"], &reference).finish().expect_code(0);
    assert!(guarded.token_counts()["anonymous"].as_u64() > before, "{}", guarded.token_counts());
}

#[test]
fn a_digest_names_exactly_one_manifest() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    let image = two_layers(Packing::Gzip);
    let reference = registry.push(&image, "team/app", "1", Style::OciIndex);
    let manifest = image.manifest(&image.config_blob(tests::image::own_architecture()));
    let digest = tests::image::sha256(&manifest);
    let name = reference.rsplit_once(':').expect("a tag").0;
    assert_eq!(run(&fixture, &[], &format!("{name}@{digest}")).finish().expect_code(0).json()["last"], "2");
    let wrong = tests::image::sha256(b"something else");
    run(&fixture, &[], &format!("{name}@{wrong}")).finish().expect_code(125);
}

#[test]
fn a_layer_that_does_not_match_its_digest_is_refused_and_nothing_is_kept() {
    let Some(fixture) = Fixture::new() else { return };
    let image = two_layers(Packing::Plain);
    let registry = BrokenRegistry::start(&image, |request, honest| {
        let blob = request.path.contains("/blobs/") && honest.body.ends_with(&[0; 512]);
        blob.then(|| {
            let mut reply = honest.clone();
            let middle = reply.body.iter().position(|byte| *byte == b'2').expect("the file's content");
            reply.body[middle] = b'3';
            reply
        })
    });
    let ran = run(&fixture, &[], &registry.reference()).finish().expect_code(125);
    let layer = &registry.layer_digests[2];
    assert!(ran.err().contains(layer.as_str()), "the message names the layer: {}", ran.err());
    assert!(ran.stdout.is_empty());
    fixture.expect_nothing_left();
    let published = fixture.cache().join("v1/layers").join(layer.trim_start_matches("sha256:"));
    assert!(!published.exists(), "a layer that failed must not be in the cache");
    let images = fs::read_dir(fixture.cache().join("v1/images")).map_or(0, Iterator::count);
    assert_eq!(images, 0, "nor its image");
}

#[test]
fn a_layer_that_does_not_match_its_diff_id_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let mut image = two_layers(Packing::Gzip);
    image.layers[2].diff_id = image.layers[1].diff_id.clone();
    let registry = BrokenRegistry::start(&image, |_, _| None);
    let ran = run(&fixture, &[], &registry.reference()).finish().expect_code(125);
    assert!(ran.err().contains(&registry.layer_digests[2]), "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn a_manifest_that_does_not_match_its_digest_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let registry = BrokenRegistry::start(&two_layers(Packing::Gzip), |request, honest| {
        request.path.contains("/manifests/sha256:").then(|| {
            let mut reply = honest.clone();
            reply.body.push(b' ');
            reply
        })
    });
    let reference = format!("{}/team/app@{}", registry.address(), registry.manifest_digest);
    run(&fixture, &[], &reference).finish().expect_code(125).expect_err(&registry.manifest_digest);
}

#[test]
fn a_truncated_layer_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let mut image = two_layers(Packing::Gzip);
    // The registry is consistent with itself, but the gzip stream and the tar in it end too early.
    let layer = &mut image.layers[2];
    layer.blob.truncate(layer.blob.len() / 2);
    let registry = BrokenRegistry::start(&image, |_, _| None);
    let ran = run(&fixture, &[], &registry.reference()).finish().expect_code(125);
    assert!(ran.err().contains(&registry.layer_digests[2]), "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn a_registry_that_breaks_off_in_mid_layer_leaves_a_cache_that_goes_on() {
    let Some(fixture) = Fixture::new() else { return };
    let image = image_with_layer_of(2 << 20);
    // The first answer breaks off after a third, and each further one at its start.
    let registry = BrokenRegistry::start(&image, |request, honest| {
        let is_part = request.headers.contains_key("range");
        let is_large = request.path.contains("/blobs/") && honest.body.len() > 1 << 20;
        is_large.then(|| honest.clone().cut_after(if is_part { 100 } else { honest.body.len() / 3 }))
    });
    let ran = fixture.undocked(&["pull", "--registry-retry-delay", "0.01", &registry.reference()]).finish();
    ran.expect_code(125).expect_err(&registry.layer_digests[1]);
    fixture.expect_nothing_left();

    // The same cache, and a registry that is well again.
    let registry = BrokenRegistry::start(&image, |_, _| None);
    fixture.undocked(&["pull", &registry.reference()]).finish().expect_code(0);
    let run = fixture.run_image(&registry.reference(), &["--pull", "never", "--entrypoint", "/var/task/bootstrap"], &["--line", "exit 3"]);
    run.finish().expect_code(3);
}

#[test]
fn a_real_registry_gone_in_mid_layer_leaves_no_half_image() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    let image = image_with_layer_of(8 << 20);
    let direct = registry.push(&image, "big/one", "1", Style::Docker);
    let proxy = CuttingProxy::start(registry.address(), 3 << 20);
    let through = direct.replace(registry.address(), &proxy.address());
    let ran = fixture.undocked(&["pull", "--registry-retry-delay", "0.01", &through]).finish().expect_code(125);
    assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
    fixture.expect_nothing_left();
    let images = fs::read_dir(fixture.cache().join("v1/images")).map_or(0, Iterator::count);
    assert_eq!(images, 0);
    fixture.undocked(&["pull", &direct]).finish().expect_code(0);
}

#[test]
fn a_missing_tag_and_a_missing_registry_are_told_apart() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    let reference = registry.push(&Image::provided(), "team/app", "1", Style::Docker);
    let missing = reference.replace(":1", ":nope");
    run(&fixture, &[], &missing).finish().expect_code(125).expect_err(&missing);
    drop(registry);
    let ran = run(&fixture, &[], &missing).finish().expect_code(125);
    assert!(ran.err().to_lowercase().contains("refused"), "{}", ran.err());
    assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
}

#[test]
fn too_many_requests_are_told_with_what_to_do() {
    let Some(fixture) = Fixture::new() else { return };
    let registry = BrokenRegistry::start(&two_layers(Packing::Gzip), |request, _| {
        let answer = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        request.path.contains("/blobs/").then(|| Reply::new(429, answer).header("Retry-After", "0"))
    });
    let ran = run(&fixture, &[], &registry.reference()).finish().expect_code(125);
    assert!(ran.err().contains("slow down") && ran.err().contains("hint: "), "{}", ran.err());
}

/// CVE-2024-3727: a digest is text from a stranger, and becomes a path.
#[test]
fn cve_2024_3727_a_digest_that_is_none_is_refused_before_it_becomes_a_path() {
    let Some(fixture) = Fixture::new() else { return };
    let evil = "sha256:../../../../../../tmp/x";
    let registry = BrokenRegistry::edited(&two_layers(Packing::Gzip), |manifest| manifest["layers"][1]["digest"] = json!(evil));
    run(&fixture, &[], &registry.reference()).finish().expect_code(125);
    assert!(registry.requests().iter().all(|request| !request.path.contains("..")), "it must not be asked for either");
}

/// CVE-2020-15157: a layer's `urls` lead to any host, and credentials must not follow.
#[test]
fn cve_2020_15157_the_urls_of_a_foreign_layer_are_not_followed() {
    let Some(fixture) = Fixture::new() else { return };
    let elsewhere = BrokenRegistry::start(&Image::provided(), |_, _| None);
    let address = elsewhere.address();
    let registry = BrokenRegistry::edited(&two_layers(Packing::Gzip), |manifest| {
        manifest["layers"][2]["urls"] = json!([format!("http://{address}/v2/stolen")]);
        manifest["layers"][2]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    });
    run(&fixture, &[], &registry.reference()).finish();
    assert!(registry.requests().len() > 1, "the trap was walked up to: {:?}", registry.requests());
    assert!(elsewhere.requests().is_empty(), "{:?}", elsewhere.requests());
}

#[test]
fn plain_http_beyond_loopback_must_be_asked_for() {
    let Some(fixture) = Fixture::new() else { return };
    // Nobody listens there, on loopback's other addresses either: what counts is which scheme is tried and said.
    let ran = run(&fixture, &[], "192.0.2.1:5000/team/app:1").env("HTTPS_PROXY", "http://127.0.0.1:9").finish().expect_code(125);
    assert!(!ran.err().contains("http://192.0.2.1"), "{}", ran.err());
}

#[test]
fn progress_is_plain_lines_in_a_pipe_and_nothing_when_quiet() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else {
        return;
    };
    let reference = registry.push(&image_with_layer_of(8 << 20), "team/app", "1", Style::Docker);
    let loud = fixture.undocked(&["pull", &reference]).finish().expect_code(0);
    assert!(!loud.err().trim().is_empty() && !loud.stderr.contains(&b'\r') && !loud.stderr.contains(&0x1b), "{:?}", loud.err());
    let quiet =
        fixture.undocked(&["pull", "--quiet", &reference]).env("UNDOCKED_CACHE", fixture.path().join("other")).finish().expect_code(0);
    assert_eq!(quiet.err(), "");
    let bars = fixture.undocked(&["pull", &reference]).env("UNDOCKED_CACHE", fixture.path().join("third")).stderr_on_terminal().finish();
    assert!(bars.expect_code(0).stderr.contains(&0x1b), "bars move on a terminal");
}
