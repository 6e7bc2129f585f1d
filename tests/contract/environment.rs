//! The variables a function sees: lambci's table for images of that family, AWS's for its own, and nothing of ours.

use serde_json::{Value, json};
use tests::image::Image;
use tests::image::Packing;
use tests::tar::Tar;
use tests::{Fixture, Run};

fn env_of(run: Run) -> Value {
    run.finish().expect_code(0).json()["env"].clone()
}

fn fixture() -> Option<Fixture> {
    let fixture = Fixture::new()?;
    fixture.script("note-env env\nnext\nnote-event\nrespond-notes\nnext");
    Some(fixture)
}

/// `YYYY/MM/DD/[version]` and 32 hexadecimal digits.
fn is_log_stream(text: &str, version: &str) -> bool {
    let pattern = format!("dddd/dd/dd/[{version}]{}", "x".repeat(32));
    let fits = |c: char, p: char| match p {
        'd' => c.is_ascii_digit(),
        'x' => c.is_ascii_digit() || ('a'..='f').contains(&c),
        other => c == other,
    };
    text.chars().count() == pattern.chars().count() && text.chars().zip(pattern.chars()).all(|(c, p)| fits(c, p))
}

/// Without an image's own.
const PATH_OF_HOST: &str = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin";

#[test]
fn p18_what_a_lambci_bootstrap_sees_by_default() {
    let Some(fixture) = fixture() else { return };
    let env = env_of(fixture.run(&[], &[]));
    let task = fixture.task_inside();
    let expected = [
        ("LAMBDA_TASK_ROOT", task.as_str()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("TZ", ":UTC"),
        ("LANG", "en_US.UTF-8"),
        ("AWS_LAMBDA_FUNCTION_NAME", "test"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1536"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("_HANDLER", "handler"),
        ("PATH", if tests::place::isolation_is(&["in-place"]) { PATH_OF_HOST } else { "/usr/local/bin:/usr/bin/:/bin:/opt/bin" }),
    ];
    for (name, value) in expected {
        assert_eq!(env[name], value, "{name}");
    }
    let stream = env["AWS_LAMBDA_LOG_STREAM_NAME"].as_str().expect("text");
    assert!(is_log_stream(stream, "$LATEST"), "{stream}");
    assert!(env["AWS_LAMBDA_RUNTIME_API"].is_string());
    assert_eq!((&env["AWS_SESSION_TOKEN"], &env["AWS_LAMBDA_FUNCTION_TIMEOUT"], &env["HOME"]), (&Value::Null, &Value::Null, &Value::Null));
}

#[test]
fn p19_the_settings_change_names_and_the_arn() {
    let Some(fixture) = fixture() else { return };
    let options = "AWS_LAMBDA_FUNCTION_NAME=fn AWS_LAMBDA_FUNCTION_VERSION=7 AWS_LAMBDA_FUNCTION_MEMORY_SIZE=384 AWS_LAMBDA_FUNCTION_TIMEOUT=60 \
                   AWS_REGION=eu-west-1 AWS_ACCOUNT_ID=1234-5678-9012 AWS_LAMBDA_LOG_GROUP_NAME=/mine";
    let options: Vec<&str> = options.split_whitespace().flat_map(|variable| ["-e", variable]).collect();
    let ran = fixture.run(&options, &[]).finish().expect_code(0);
    let (env, headers) = (ran.json()["env"].clone(), ran.json()["event-headers"].clone());
    assert_eq!(headers["lambda-runtime-invoked-function-arn"], "arn:aws:lambda:eu-west-1:123456789012:function:fn");
    let expected = [
        ("AWS_LAMBDA_FUNCTION_NAME", "fn"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "7"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "384"),
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", "60"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/fn"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
    ];
    for (name, value) in expected {
        assert_eq!(env[name], value, "{name}");
    }
    assert!(is_log_stream(env["AWS_LAMBDA_LOG_STREAM_NAME"].as_str().expect("text"), "7"));
    assert!(ran.err().contains(" Version: 7\n") && ran.err().contains("\tMemory Size: 384 MB\t"), "{}", ran.err());
}

#[test]
fn an_arn_of_ones_own_is_passed_on() {
    let Some(fixture) = fixture() else { return };
    let arn = "arn:aws:lambda:us-gov-west-1:1:function:x:alias";
    let ran = fixture.run(&["-e", &format!("AWS_LAMBDA_FUNCTION_INVOKED_ARN={arn}")], &[]).finish().expect_code(0);
    assert_eq!(ran.json()["event-headers"]["lambda-runtime-invoked-function-arn"], arn);
}

#[test]
fn the_memory_option_takes_dockers_forms() {
    let Some(fixture) = fixture() else { return };
    for (given, megabytes) in [("512m", "512"), ("1.5G", "1536"), ("1g", "1024"), ("1073741824", "1024"), ("524288k", "512")] {
        assert_eq!(env_of(fixture.run(&["-m", given], &[]))["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], megabytes, "{given}");
    }
}

#[test]
fn credentials_are_normalised_when_they_are_given() {
    let Some(fixture) = fixture() else { return };
    let options = ["-e", "AWS_ACCESS_KEY=a", "-e", "AWS_ACCESS_KEY_ID=b", "-e", "AWS_SECRET_KEY=s", "-e", "AWS_SECURITY_TOKEN=t"];
    let env = env_of(fixture.run(&options, &[]));
    assert_eq!(
        (&env["AWS_ACCESS_KEY_ID"], &env["AWS_SECRET_ACCESS_KEY"], &env["AWS_SESSION_TOKEN"]),
        (&json!("a"), &json!("s"), &json!("t"))
    );
    let env = env_of(fixture.run(&["-e", "AWS_SESSION_TOKEN=x", "-e", "AWS_SECURITY_TOKEN=y"], &[]));
    assert_eq!(env["AWS_SESSION_TOKEN"], "x");
}

#[test]
fn variables_given_by_name_alone_come_from_our_environment() {
    let Some(fixture) = fixture() else { return };
    let run = fixture.run(&["-e", "PASSED", "-e", "UNSET", "-e", "X=4=4", "-e", "EMPTY="], &[]);
    let env = env_of(run.env("PASSED", "p").env("NOT_PASSED", "n"));
    assert_eq!((&env["PASSED"], &env["X"], &env["EMPTY"]), (&json!("p"), &json!("4=4"), &json!("")));
    assert_eq!((&env["UNSET"], &env["NOT_PASSED"]), (&Value::Null, &Value::Null));
}

/// T15: a secret in our own environment stays there, but the settings of a run are read from it.
#[test]
fn t15_nothing_of_our_environment_gets_in_but_the_settings() {
    let Some(fixture) = fixture() else { return };
    fixture.script("note-env env\nread one /proc/1/environ\nread self /proc/self/environ\nnext\nrespond-notes\nnext");
    let secrets = [
        "SECRET_X",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "LD_PRELOAD_X",
        "GITHUB_TOKEN",
        "HOME",
    ];
    let run = secrets.iter().fold(fixture.run(&[], &[]), |run, name| run.env(name, "leaked-secret"));
    let run = run
        .env("AWS_LAMBDA_FUNCTION_NAME", "from-outside")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("UNDOCKED_CACHE", fixture.cache());
    let notes = run.finish().expect_code(0).json();
    assert!(!notes.to_string().contains("leaked-secret"), "{notes}");
    assert_eq!(notes["env"]["AWS_LAMBDA_FUNCTION_NAME"], "from-outside");
    assert_eq!(notes["env"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "256");
    let names: Vec<&String> = notes["env"].as_object().expect("an object").keys().collect();
    assert!(names.iter().all(|name| !name.starts_with("UNDOCKED")), "{names:?}");
}

#[test]
fn sources_have_an_order() {
    let Some(fixture) = fixture() else { return };
    let file = fixture.path().join("file");
    std::fs::write(&file, "AWS_LAMBDA_FUNCTION_NAME=file\nAWS_REGION=file\n").expect("written");
    let file = file.display().to_string();
    let run = fixture.run(&["--env-file", &file, "-e", "AWS_LAMBDA_FUNCTION_NAME=option"], &[]);
    let env =
        env_of(run.env("AWS_LAMBDA_FUNCTION_NAME", "outside").env("AWS_REGION", "outside").env("AWS_LAMBDA_FUNCTION_VERSION", "outside"));
    assert_eq!((&env["AWS_LAMBDA_FUNCTION_NAME"], &env["AWS_REGION"]), (&json!("option"), &json!("file")));
    assert_eq!(env["AWS_LAMBDA_FUNCTION_VERSION"], "outside");
}

#[test]
fn a_variable_of_the_image_yields_to_one_that_is_given() {
    let Some(fixture) = fixture() else { return };
    let env = env_of(fixture.run(&["-e", "TZ=Europe/Berlin", "-e", "PATH=/mine"], &[]));
    assert_eq!((&env["TZ"], &env["PATH"]), (&json!("Europe/Berlin"), &json!("/mine")));
}

/// What Lambda sets for every function, by 4.1 of the contract; the image in the test sets `TZ` otherwise.
const OF_LAMBDA: &str = "TZ=:UTC LANG=en_US.UTF-8 _HANDLER=app.handler X=4=4 LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime \
    PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin \
    LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib \
    AWS_LAMBDA_INITIALIZATION_TYPE=on-demand AWS_XRAY_CONTEXT_MISSING=LOG_ERROR AWS_LAMBDA_FUNCTION_VERSION=$LATEST AWS_REGION=us-east-1 \
    AWS_DEFAULT_REGION=us-east-1";
/// What it sets to a value of its own.
const SOME_VALUE: &str = "AWS_LAMBDA_FUNCTION_NAME AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME \
    AWS_LAMBDA_RUNTIME_API AWS_XRAY_DAEMON_ADDRESS _AWS_XRAY_DAEMON_ADDRESS _AWS_XRAY_DAEMON_PORT";

/// A16: an image of AWS's own family, whose entry point is a program that takes the handler.
#[test]
fn a16_an_aws_image_gets_the_list_that_lambda_sets() {
    tests::skip_in_isolation!(["in-place"], "about images");
    let Some(fixture) = Fixture::new() else { return };
    let probe = std::fs::read(tests::place::probe()).expect("the probe is there");
    let root = Tar::new().folder("var").folder("var/task").folder("opt").program("lambda-entrypoint.sh", probe);
    let root = root.file("script", "note-args args\nnote-env env\nnext\nrespond-notes\nnext\n");
    let own = OF_LAMBDA.split_whitespace().filter(|variable| ["PATH=", "LD_LI", "LANG="].iter().any(|start| variable.starts_with(start)));
    let variables: Vec<&str> = own.chain(["TZ=:/etc/localtime"]).collect();
    let config = json!({"Entrypoint": ["/lambda-entrypoint.sh"], "WorkingDir": "/var/task", "Env": variables});
    fixture.layout().add("aws", &Image { layers: Vec::new(), config }.layer(root, Packing::Gzip));
    let run = fixture.undocked(&["run", "-e", "X=4=4", &fixture.image("aws"), "app.handler", "{}"]);
    let notes = run.finish().expect_code(0).json();
    assert_eq!(notes["args"], json!(["/lambda-entrypoint.sh", "app.handler"]));
    let env = notes["env"].as_object().expect("an object");
    for (name, value) in OF_LAMBDA.split_whitespace().filter_map(|variable| variable.split_once('=')) {
        assert_eq!(env[name], value, "{name}");
    }
    for name in SOME_VALUE.split_whitespace() {
        assert!(env[name].as_str().is_some_and(|value| !value.is_empty()), "{name}");
    }
    let strange: Vec<&String> = env.keys().filter(|name| name.starts_with("_LAMBDA_") && *name != "_LAMBDA_TELEMETRY_LOG_FD").collect();
    assert!(strange.is_empty(), "{strange:?}");
}
