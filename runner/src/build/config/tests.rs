use super::*;
use serde_json::from_slice;

fn spec() -> ImageSpec {
    ImageSpec::scratch(&"linux/amd64".parse().unwrap(), SystemTime::UNIX_EPOCH)
}

fn config(spec: &ImageSpec) -> Value {
    from_slice::<Value>(&spec.to_json()).unwrap()["config"].clone()
}

#[test]
fn a_config_from_nothing() {
    let mut spec = spec();
    spec.set_variable("A", "1");
    spec.set_variable("PATH", "/bin");
    assert_eq!(spec.set_working_dir("a/../b"), "/b");
    assert_eq!(spec.set_working_dir("c"), "/b/c");
    spec.set_cmd(&CommandForm::Shell("x y".into()));
    spec.set_shell(&["/bin/bash".into(), "-ec".into()]);
    spec.set_entrypoint(&CommandForm::Shell("z".into()));
    spec.expose("80").unwrap();
    spec.expose("90-91/UDP").unwrap();
    spec.add_volume("/v");
    spec.set_label("l", "m");
    spec.set_health(&Health::Check(
        vec![("interval".into(), "1m30s".into()), ("retries".into(), "3".into())],
        CommandForm::Shell("c".into()),
    ))
    .unwrap();
    spec.done("ENV A=1", None);
    spec.done("COPY a b", Some(&Digest::of(b"layer")));
    assert_eq!(
        config(&spec),
        json!({
            "Env": ["PATH=/bin", "A=1"], "WorkingDir": "/b/c", "Shell": ["/bin/bash", "-ec"],
            "Cmd": ["/bin/sh", "-c", "x y"], "Entrypoint": ["/bin/bash", "-ec", "z"],
            "ExposedPorts": {"80/tcp": {}, "90/udp": {}, "91/udp": {}}, "Volumes": {"/v": {}}, "Labels": {"l": "m"},
            "Healthcheck": {"Test": ["CMD-SHELL", "c"], "Interval": 90_000_000_000_u64, "Retries": 3},
        })
    );
    let document: Value = from_slice(&spec.to_json()).unwrap();
    assert_eq!(document["created"], "1970-01-01T00:00:00Z");
    assert_eq!(document["history"][0], json!({"created": "1970-01-01T00:00:00Z", "created_by": "ENV A=1", "empty_layer": true}));
    assert_eq!(document["rootfs"]["diff_ids"], json!([Digest::of(b"layer").to_string()]));
}

#[test]
fn what_an_image_hands_down() {
    let base = json!({
        "architecture": "arm64", "os": "linux", "author": "a", "container": "0123", "docker_version": "1", "created": "2020-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/x"], "Cmd": ["c"], "Entrypoint": ["e"], "Image": "sha256:1", "Hostname": "h", "OnBuild": ["RUN x"], "User": "u"},
        "history": [{"created_by": "x"}], "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"1")]}
    });
    let mut spec = ImageSpec::of_image(base.to_string().as_bytes(), &[Digest::of(b"1")], SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(spec.take_triggers(), ["RUN x"]);
    assert!(spec.take_triggers().is_empty());
    assert_eq!((spec.user(), spec.working_dir()), (Some("u"), "/"));
    spec.set_entrypoint(&CommandForm::Exec(vec!["f".into()]));
    assert_eq!(
        config(&spec),
        json!({"Env": ["PATH=/x"], "Entrypoint": ["f"], "User": "u"}),
        "an inherited command goes with its entrypoint"
    );
    let document: Value = from_slice(&spec.to_json()).unwrap();
    assert_eq!((&document["architecture"], &document["author"], &document["container"]), (&json!("arm64"), &json!("a"), &Value::Null));
    assert_eq!(document["history"].as_array().unwrap().len(), 1);
    let mut own = spec.continued();
    own.set_cmd(&CommandForm::Exec(vec!["g".into()]));
    own.set_entrypoint(&CommandForm::Exec(vec!["h".into()]));
    assert_eq!(config(&own)["Cmd"], json!(["g"]));
    assert_eq!(config(&own.continued())["Cmd"], json!(["g"]));
}

#[test]
fn what_is_no_port_or_duration() {
    for port in ["x", "70000", "1-x", "1/icmp", "", "-"] {
        assert!(spec().expose(port).is_err(), "{port}");
    }
    for (text, wanted) in [
        ("1h", Some(3600.0)),
        ("1.5s", Some(1.5)),
        ("500ms", Some(0.5)),
        ("1m1s", Some(61.0)),
        ("5", None),
        ("", None),
        ("s", None),
        ("1x", None),
    ] {
        assert_eq!(duration(text).map(|duration| duration.as_secs_f64()), wanted, "{text}");
    }
    for (path, wanted) in [("/", "/"), ("/a//b/./c/..", "/a/b"), ("/../..", "/"), ("a", "/a")] {
        assert_eq!(clean(path), wanted, "{path}");
    }
}
