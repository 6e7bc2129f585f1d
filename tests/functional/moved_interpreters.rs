//! The images of `tests/images` again, under names that say nothing or lie, with their interpreters moved: what runs is decided by what an
//! image holds and says, never by what it is called.

use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tests::image::{Image, ImageLayer, Layout, sha256};
use tests::real_registry::{RealRegistry, Style};
use tests::{Fixture, place, skip};

/// An image from the layout, or `None` and the test counted as skipped.
fn real(name: &str) -> Option<Image> {
    let found = Layout::at(&place::images_layout()).find(name);
    if found.is_none() {
        skip::skip(skip::Lack::Providable, &format!("the image {name} is not built (tests/images/mkimages.py build @ci)"));
    }
    found
}

/// A word nobody has thought of.
fn random_word() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("z{:x}", now ^ u128::from(std::process::id()).rotate_left(20))
}

/// Moves the folder `from` to `to` (paths from the root, without the first slash) in every layer, and every mention of it in scripts and
/// configuration.
fn moved(image: &Image, from: &str, to: &str) -> Image {
    let layers = image.layers.iter().map(|layer| moved_layer(layer, from, to)).collect();
    let config = image.config.to_string().replace(&format!("/{from}"), &format!("/{to}"));
    Image { layers, config: serde_json::from_str(&config).expect("only paths were replaced") }
}

fn moved_layer(layer: &ImageLayer, from: &str, to: &str) -> ImageLayer {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(layer.blob.as_slice()));
    let mut builder = tar::Builder::new(Vec::new());
    let rename = |path: &Path| match path.strip_prefix(from) {
        Ok(rest) => Path::new(to).join(rest),
        Err(_) => path.to_owned(),
    };
    for entry in archive.entries().expect("a layer is a tar") {
        let mut entry = entry.expect("a layer is a tar");
        let mut header = entry.header().clone();
        let path = rename(&entry.path().expect("paths are sound here"));
        if let Some(target) = entry.link_name().expect("links are sound here") {
            let hard = header.entry_type().is_hard_link();
            let target = if hard { rename(&target) } else { target.into_owned() };
            builder.append_link(&mut header, path, target).expect("memory takes it");
            continue;
        }
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("a layer is a tar");
        if data.starts_with(b"#!") {
            data = String::from_utf8_lossy(&data).replace(&format!("/{from}"), &format!("/{to}")).into_bytes();
        }
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, data.as_slice()).expect("memory takes it");
    }
    let tar = builder.into_inner().expect("memory takes it");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, &tar).expect("memory takes it");
    ImageLayer { blob: encoder.finish().expect("memory takes it"), media_type: layer.media_type.clone(), diff_id: sha256(&tar) }
}

/// Runs an echo function of `tests/images` in an image under a name; gives its answer.
fn echo(image: &Image, repository: &str, tag: &str, function: &str, handler: &str) -> Option<Value> {
    let (fixture, registry) = (Fixture::new()?, RealRegistry::start()?);
    let reference = registry.push(image, repository, tag, Style::OciIndex);
    let volume = format!("{}:/var/task:ro", place::functions().join(function).display());
    let run = fixture.undocked(&["run", "-v", &volume, &reference, handler, "{\"n\":1}"]);
    let answer = run.finish().expect_code(0).json();
    assert_eq!(answer["event"], json!({"n": 1}));
    fixture.expect_nothing_left();
    Some(answer)
}

#[test]
fn node_of_a_lambci_image_moved_and_called_something() {
    let Some(image) = real("lambci/lambda:nodejs12.x") else { return };
    let image = moved(&image, "var/lang", "usr/lib/elsewhere/n");
    let Some(answer) = echo(&image, &format!("{}/{}", random_word(), random_word()), &random_word(), "nodejs", "index.handler") else {
        return;
    };
    assert_eq!(answer["exe"], "/usr/lib/elsewhere/n/bin/node");
    assert_eq!(answer["runtime"], "node v12.18.4");
}

#[test]
fn python_of_an_aws_image_moved_and_called_a_lambci_node() {
    let Some(image) = real("lambda/python:3.11") else { return };
    let image = moved(&image, "var/lang", "srv/py");
    let Some(answer) = echo(&image, "lambci/lambda", "nodejs12.x", "python", "app.handler") else {
        return;
    };
    assert_eq!(answer["exe"], "/srv/py/bin/python3.11");
}

#[test]
fn the_bootstrap_of_a_lambci_image_moved_with_its_entrypoint() {
    let Some(image) = real("lambci/lambda:python3.8") else { return };
    let mut image = moved(&moved(&image, "var/rapid", "usr/libexec/r"), "var/runtime", "usr/libexec/runtime");
    // lambci's server looks where it is told; so must whoever stands in for it.
    image.config["Entrypoint"] = json!(["/usr/libexec/r/init", "--bootstrap", "/usr/libexec/runtime/bootstrap", "--enable-msg-logs"]);
    let Some(answer) = echo(&image, &random_word(), "latest", "python", "app.handler") else {
        return;
    };
    assert!(answer["runtime"].as_str().is_some_and(|text| text.starts_with("python 3.8")), "{answer}");
}

#[test]
fn a_lambci_image_called_like_one_of_aws() {
    let Some(image) = real("lambci/lambda:nodejs12.x") else { return };
    let Some(answer) = echo(&image, "lambda/python", "3.11", "nodejs", "index.handler") else {
        return;
    };
    assert_eq!(answer["runtime"], "node v12.18.4");
}
