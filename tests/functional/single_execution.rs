//! One image, one function, one answer: what `undocked run` writes, where, and what it hands to the function.
//!
//! Tests that hold a row of an acceptance table begin with it: `p` is lambci's behaviour, `a` is AWS's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tests::image::{Image, Packing};
use tests::skip::is_root;
use tests::tar::Tar;
use tests::{Fixture, place, skip_for_this_user, skip_in_isolation};

const REQUEST_ID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

/// Whether a text has the form of a request id: lower-case hexadecimal digits where the pattern has `x`.
fn is_request_id(text: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.len() == REQUEST_ID.len() && text.chars().zip(REQUEST_ID.chars()).all(|(c, p)| if p == 'x' { digit(c) } else { c == p })
}

/// `12.34`: milliseconds as the platform writes them.
fn is_ms(text: &str) -> bool {
    text.split_once('.').is_some_and(|(whole, part)| whole.parse::<u64>().is_ok() && part.len() == 2 && part.parse::<u8>().is_ok())
}

/// The fields of a REPORT line by name; their order is asserted.
fn report_fields(line: &str) -> Vec<(String, String)> {
    let fields = line.strip_prefix("REPORT ").expect("a REPORT line").strip_suffix('\t').expect("it ends in a tab");
    fields.split('\t').filter_map(|field| field.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn line_starting<'a>(text: &'a str, start: &str) -> &'a str {
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "exactly one line starts with {start:?}:\n{text}");
    found[0]
}

#[test]
fn p1_the_answer_is_framed_on_stdout() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nrespond {\"a\":1}\nnext").expect_code(0);
    assert_eq!(ran.stdout, b"\n{\"a\":1}\n");
}

#[test]
fn p2_a11_start_end_and_report_stand_on_stderr_in_aws_order() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nrespond {}\nnext").expect_code(0);
    let err = ran.err();
    let start = line_starting(&err, "START ");
    let id = start.strip_prefix("START RequestId: ").and_then(|rest| rest.strip_suffix(" Version: $LATEST")).expect("START has its form");
    assert!(is_request_id(id), "{id}");
    assert_eq!(line_starting(&err, "END "), format!("END RequestId: {id}"));
    let report = line_starting(&err, "REPORT ");
    let fields = report_fields(report);
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["RequestId", "Duration", "Billed Duration", "Memory Size", "Max Memory Used", "Init Duration"], "{report}");
    assert_eq!(fields[0].1, id);
    assert!(is_ms(fields[1].1.trim_end_matches(" ms")) && is_ms(fields[5].1.trim_end_matches(" ms")), "{report}");
    assert_eq!(fields[3].1, "1536 MB");
    let order = ["START ", "END ", "REPORT "].map(|start| err.find(start).expect("found above"));
    assert!(order.is_sorted(), "{err}");
}

#[test]
fn billed_duration_is_duration_and_init_rounded_up() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("sleep 30\nnext\nsleep 50\nrespond {}\nnext").expect_code(0);
    let fields = report_fields(line_starting(&ran.err(), "REPORT ")).into_iter().collect::<std::collections::BTreeMap<_, _>>();
    let ms = |name: &str| fields[name].trim_end_matches(" ms").parse::<f64>().expect("a number");
    let (duration, init, billed) = (ms("Duration"), ms("Init Duration"), ms("Billed Duration"));
    assert!(duration >= 50.0 && init >= 30.0, "{fields:?}");
    // Each is rounded to two decimals before we see it.
    assert!((duration + init - 0.01).ceil() <= billed && billed <= (duration + init + 0.01).ceil(), "{fields:?}");
}

#[test]
fn max_memory_used_is_measured() {
    let Some(fixture) = Fixture::new() else { return };
    let used = |script: &str| -> u64 {
        let ran = fixture.invoke(script).expect_code(0);
        let fields = report_fields(line_starting(&ran.err(), "REPORT "));
        fields[4].1.trim_end_matches(" MB").parse().expect("a number")
    };
    let little = used("next\nrespond {}\nnext");
    let much = used("touch-memory 200\nnext\nrespond {}\nnext");
    assert!(little < 100, "{little}");
    assert!((200..400).contains(&much), "{much}");
}

#[test]
fn p3_an_answer_that_is_not_json_is_printed_as_it_is() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nrespond Hello from Lambda!\nnext").expect_code(0);
    assert_eq!(ran.stdout, b"\nHello from Lambda!\n");
}

#[test]
fn p4_an_answer_in_json_is_compacted_and_nothing_else() {
    let Some(fixture) = Fixture::new() else { return };
    let cases = [
        (r#"{ "b" : 1.0,   "a" : [ 1 ] }"#, r#"{"b":1.0,"a":[1]}"#),
        (r#"{"twice": 1, "twice": 2e0}"#, r#"{"twice":1,"twice":2e0}"#),
        // lambci escapes these; AWS does not.
        (r#"{"html": "<a>&</a>"}"#, r#"{"html":"<a>&</a>"}"#),
        (r#" "a  b\u0020" "#, r#""a  b\u0020""#),
        (r#"{"é": "日本"}"#, r#"{"é":"日本"}"#),
        ("[1, 2", "[1, 2"),
        ("12345678901234567890123", "12345678901234567890123"),
    ];
    for (answer, printed) in cases {
        let ran = fixture.invoke(&format!("next\nrespond {answer}\nnext")).expect_code(0);
        assert_eq!(ran.out(), format!("\n{printed}\n"), "{answer}");
    }
}

#[test]
fn p5_an_empty_answer_is_null() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nrespond\nnext").expect_code(0);
    assert_eq!(ran.stdout, b"\nnull\n");
}

#[test]
fn p6_without_arguments_the_handler_is_handler_and_the_event_empty() {
    let Some(fixture) = Fixture::new() else { return };
    let notes = fixture.invoke("next\nnote-event\nnote-env env\nrespond-notes\nnext").expect_code(0).json();
    assert_eq!(notes["env"]["_HANDLER"], "handler");
    assert_eq!(notes["event-text"], "{}");
}

/// Handler: argument, `AWS_LAMBDA_FUNCTION_HANDLER`, `_HANDLER`. Event: argument (even empty), `AWS_LAMBDA_EVENT_BODY`, stdin, `{}`.
#[test]
fn handler_and_event_come_from_the_first_source_that_has_them() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nnote-event\nnote-env env\nrespond-notes\nnext");
    let cases: [(&[&str], &[&str], &str, &str); 7] = [
        (&[], &["a.b", "{\"x\":1}"], "a.b", "{\"x\":1}"),
        (&["-e", "AWS_LAMBDA_FUNCTION_HANDLER=from.env", "-e", "_HANDLER=low"], &[], "from.env", "{}"),
        (&["-e", "AWS_LAMBDA_FUNCTION_HANDLER=from.env"], &["arg"], "arg", "{}"),
        (&["-e", "_HANDLER=low"], &[], "low", "{}"),
        (&["-e", "AWS_LAMBDA_EVENT_BODY=body"], &[], "handler", "body"),
        (&["-e", "AWS_LAMBDA_EVENT_BODY=body"], &["h", "arg"], "h", "arg"),
        (&["-e", "AWS_LAMBDA_EVENT_BODY=body"], &["h", ""], "h", ""),
    ];
    for (options, rest, handler, event) in cases {
        let notes = fixture.run(options, rest).finish().expect_code(0).json();
        assert_eq!((&notes["env"]["_HANDLER"], &notes["event-text"]), (&json!(handler), &json!(event)), "{options:?} {rest:?}");
    }
}

#[test]
fn p7_stdin_is_the_event_only_when_asked_for() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nnote-event\nrespond-notes\nnext");
    let event = |run: tests::Run| run.stdin("{\"s\":1}\n").finish().expect_code(0).json()["event-text"].clone();
    assert_eq!(event(fixture.run(&["-e", "DOCKER_LAMBDA_USE_STDIN=1"], &[])), "{\"s\":1}\n");
    assert_eq!(event(fixture.run(&[], &[]).env("DOCKER_LAMBDA_USE_STDIN", "1")), "{\"s\":1}\n");
    assert_eq!(event(fixture.run(&["-i", "-e", "DOCKER_LAMBDA_USE_STDIN=0"], &[])), "{\"s\":1}\n", "any text switches it on");
    assert_eq!(event(fixture.run(&[], &["handler", "-"])), "{\"s\":1}\n");
    assert_eq!(event(fixture.run(&[], &[])), "{}");
    assert_eq!(event(fixture.run(&["-e", "DOCKER_LAMBDA_USE_STDIN="], &[])), "{}", "empty is off");
}

#[test]
fn p8_an_event_of_a_million_bytes_arrives_whole() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nnote-event\nrespond-notes\nnext");
    let event: Vec<u8> = (0..1_000_000u32).map(|n| b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26).collect();
    let fnv = event.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let notes = fixture.run(&["-e", "DOCKER_LAMBDA_USE_STDIN=1"], &[]).stdin(event).finish().expect_code(0).json();
    assert_eq!(notes["event-bytes"], 1_000_000);
    assert_eq!(notes["event-fnv"], fnv);
}

#[test]
fn an_event_that_is_not_json_is_passed_on_as_it_is() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nnote-event\nrespond-notes\nnext");
    assert_eq!(fixture.run(&[], &["h", "not json"]).finish().expect_code(0).json()["event-text"], "not json");
}

#[test]
fn p16_both_streams_of_the_function_go_to_stderr_between_start_and_end() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nout o-line\\n\nerr e-line\\n\nrespond {}\nnext").expect_code(0);
    assert_eq!(ran.stdout, b"\n{}\n");
    let err = ran.err();
    let order = ["START ", "o-line\n", "e-line\n", "END ", "REPORT "];
    let places: Vec<usize> = order.iter().map(|part| err.find(part).unwrap_or_else(|| panic!("no {part:?} in {err}"))).collect();
    assert!(places.is_sorted() || (places[0] < places[2] && places[2] < places[1] && places[1] < places[3]), "{err}");
}

#[test]
fn output_without_a_line_end_is_not_lost_and_does_not_swallow_the_end_line() {
    let Some(fixture) = Fixture::new() else { return };
    let err = fixture.invoke("next\nout no end\nrespond {}\nnext").expect_code(0).err();
    assert!(err.contains("no end\nEND RequestId"), "{err}");
}

#[test]
fn p17_a_carriage_return_becomes_a_line_end() {
    let Some(fixture) = Fixture::new() else { return };
    let err = fixture.invoke("next\nout a\\rb\\r\\nc\\n\nrespond {}\nnext").expect_code(0).err();
    assert!(err.contains("a\nb\n\nc\n"), "{err:?}");
    fixture.script("next\nout a\\rb\\r\\nc\\n\nrespond {}\nnext");
    let err = fixture.run(&["-e", "DOCKER_LAMBDA_NO_MODIFY_LOGS=1"], &[]).finish().expect_code(0).err();
    assert!(err.contains("a\rb\r\nc\n"), "{err:?}");
}

#[test]
fn only_a_terminal_gets_green() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond {}\nnext");
    let green = |run: tests::Run| {
        let ran = run.finish().expect_code(0);
        assert!(!ran.stdout.contains(&0x1b), "the result is never coloured");
        let err = ran.err();
        let starts = err.matches("\x1b[32mSTART ").count();
        assert_eq!(starts, err.matches("\x1b[32mREPORT ").count());
        assert_eq!(starts, err.matches("\x1b[32mEND ").count());
        assert_eq!(3 * starts, err.matches("\x1b[0m").count(), "{err:?}");
        starts == 1
    };
    assert!(!green(fixture.run(&[], &[])));
    assert!(green(fixture.run(&[], &[]).stderr_on_terminal()));
    assert!(green(fixture.run(&["--color", "always"], &[])));
    assert!(!green(fixture.run(&["--color", "never"], &[]).stderr_on_terminal()));
    assert!(!green(fixture.run(&[], &[]).stdout_on_terminal()), "it is stderr that counts");
}

#[test]
fn quiet_keeps_the_result_and_drops_the_talk_of_the_platform() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond {\"q\":1}\nnext");
    let ran = fixture.run(&["--quiet"], &[]).finish().expect_code(0);
    assert_eq!(ran.stdout, b"\n{\"q\":1}\n");
    let err = ran.err();
    assert!(!err.contains("pull") && !err.contains("layer"), "no progress: {err}");
}

#[test]
fn p19_the_arn_and_the_deadline_are_told_in_headers() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nnote-event\nrespond-notes\nnext");
    let options = ["-e", "AWS_ACCOUNT_ID=1234-5678-9012", "-e", "AWS_LAMBDA_FUNCTION_NAME=fn"];
    let notes = fixture.run(&options, &[]).finish().expect_code(0).json();
    let headers = &notes["event-headers"];
    assert_eq!(headers["lambda-runtime-invoked-function-arn"], "arn:aws:lambda:us-east-1:123456789012:function:fn");
    let deadline: i64 = headers["lambda-runtime-deadline-ms"].as_str().and_then(|text| text.parse().ok()).expect("a number");
    let now = notes["now-ms"].as_i64().expect("a number");
    assert!((deadline - now - 300_000).abs() < 2000, "{deadline} {now}");
}

#[test]
fn a6_the_deadline_is_start_plus_timeout() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nsleep 1000\nnote-event\nrespond-notes\nnext");
    let notes = fixture.run(&["--timeout", "3"], &[]).finish().expect_code(0).json();
    let deadline: i64 = notes["event-headers"]["lambda-runtime-deadline-ms"].as_str().and_then(|text| text.parse().ok()).expect("a number");
    let remaining = deadline - notes["now-ms"].as_i64().expect("a number");
    assert!((1500..=2100).contains(&remaining), "{remaining}");
}

#[test]
fn p32_the_view_from_inside() {
    skip_in_isolation!(["proc-bind", "root-without-userns", "chroot", "in-place"], "no `/proc` or ids of its own");
    let Some(fixture) = Fixture::new() else { return };
    let script = "note-cwd cwd\nnote-pid pid\nread passwd /etc/passwd\nread status /proc/self/status\nwrite tmp /tmp/x y\n\
                  write task /var/task/x y\nstat tmp-stat /tmp\nlist proc /proc\nread hostname /proc/sys/kernel/hostname\nnext\nrespond-notes\nnext";
    let notes = fixture.invoke(script).expect_code(0).json();
    assert_eq!(notes["cwd"], "/var/task");
    assert_eq!((&notes["tmp"], &notes["task"]), (&json!("ok"), &json!("EROFS")));
    assert_eq!(notes["tmp-stat"]["mode"], "1777");
    let passwd = notes["passwd"].as_str().expect("text");
    assert!(passwd.lines().any(|line| line.starts_with("sbx_user1051:x:496:495:")), "{passwd}");
    let status = notes["status"].as_str().expect("text");
    assert!(status.contains("\nUid:\t496\t496\t496\t496\n") && status.contains("\nGid:\t495\t495\t495\t495\n"), "{status}");
    let ids: Vec<i64> = notes["proc"].as_array().expect("a list").iter().filter_map(|name| name.as_str()?.parse().ok()).collect();
    assert!(ids.len() <= 3 && ids.contains(&notes["pid"].as_i64().expect("a number")), "only the sandbox's own processes: {ids:?}");
}

#[test]
fn a18_an_image_without_the_user_gets_993_by_name() {
    skip_in_isolation!(["root-without-userns", "chroot", "in-place"], "no ids of its own");
    let Some(fixture) = Fixture::new() else { return };
    let root =
        Tar::new().folder("var").folder("var/task").folder("opt").folder("etc").file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    let image = Image { layers: Vec::new(), config: tests::image::lambci_config() }.with("User", json!("")).layer(root, Packing::Gzip);
    fixture.layout().add("no-user", &image);
    fixture.script("read passwd /etc/passwd\nread group /etc/group\nread status /proc/self/status\nnext\nrespond-notes\nnext");
    let notes = fixture.run_image(&fixture.image("no-user"), &[], &[]).finish().expect_code(0).json();
    let has = |name: &str, part: &str| assert!(notes[name].as_str().is_some_and(|text| text.contains(part)), "{part:?}: {}", notes[name]);
    has("passwd", "sbx_user1051:x:993:990:");
    has("passwd", "root:x:0:0:");
    has("group", "sbx_user1051:x:990:");
    has("status", "\nUid:\t993\t993\t993\t993\n");
    has("status", "\nGid:\t990\t990\t990\t990\n");
}

#[test]
fn a_task_folder_that_only_its_owner_may_read_is_read() {
    let Some(fixture) = Fixture::new() else { return };
    if place::isolation_is(&["in-place"]) && is_root() {
        skip_for_this_user!("root's function is nobody there, and reads what everybody may");
    }
    fixture.script("read script {task}/secret\nnext\nrespond-notes\nnext");
    fs::write(fixture.task().join("secret"), "s").expect("written");
    for (name, mode) in [("secret", 0o600), ("script", 0o400), ("bootstrap", 0o700), ("", 0o700)] {
        fs::set_permissions(fixture.task().join(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    assert_eq!(fixture.run(&[], &[]).finish().expect_code(0).json()["script"], "s");
}

#[test]
fn volumes_are_read_only_or_writable_as_said() {
    skip_in_isolation!(["chroot"], "volumes are copies there");
    let Some(fixture) = Fixture::new() else { return };
    let task = fixture.task().display().to_string();
    let data = fixture.path().join("data");
    let inside = if place::isolation_is(&["in-place"]) { data.display().to_string() } else { "/opt".to_owned() };
    fixture.script(&format!("write task {{task}}/new y\nwrite data {inside}/new y\nnext\nrespond-notes\nnext"));
    fs::create_dir(&data).expect("made");
    if place::isolation_is(&["in-place"]) && is_root() {
        // Its function is nobody there, and writes where everybody may.
        for folder in [&data, &fixture.task()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("set");
        }
    }
    // In place a volume in `/tmp` is as open as that, and that is said.
    let is_open = place::isolation_is(&["in-place"]) && fixture.path().starts_with("/tmp");
    let no = if is_open { "ok" } else { place::refused_write() };
    let cases = [("", "ok"), (":rw", "ok"), (":ro", no), (":ro,delegated", no), (":cached", "ok"), (":rw,z", "ok"), (":Z,ro", no)];
    for (options, expected) in cases {
        let (volume, other) = (format!("{task}:/var/task{options}"), format!("{}:/opt", data.display()));
        let run = fixture.undocked(&["run", "--rm", "--volume", &volume, "-v", &other, &fixture.provided()]);
        let ran = run.finish().expect_code(0);
        let notes = ran.json();
        assert_eq!((&notes["task"], &notes["data"]), (&json!(expected), &json!("ok")), "{options:?}");
        assert_eq!(ran.err().contains(&format!("keeping `{task}` read-only")), is_open && options.contains("ro"), "{}", ran.err());
        let written = fixture.task().join("new");
        assert_eq!(fs::remove_file(written).is_ok(), expected == "ok", "{options:?}");
        fs::remove_file(data.join("new")).expect("the other volume is writable by default");
    }
}

#[test]
fn a_volume_may_be_mounted_where_the_image_has_no_folder() {
    skip_in_isolation!(["in-place"], "nothing is mounted: a path in the program is the program's");
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("read data /data/deep/file\nnext\nrespond-notes\nnext");
    let data = fixture.path().join("data");
    fs::create_dir(&data).expect("made");
    fs::write(data.join("file"), "there").expect("written");
    let volume = format!("{}:/data/deep", data.display());
    assert_eq!(fixture.run(&["-v", &volume], &[]).finish().expect_code(0).json()["data"], "there");
    fixture.expect_nothing_left();
}

#[test]
fn the_bootstrap_is_looked_for_in_the_runtime_the_task_and_opt() {
    skip_in_isolation!(["in-place"], "about images");
    let Some(fixture) = Fixture::new() else { return };
    let probe = fs::read(place::probe()).expect("the probe is there");
    let with = |places: &[&str]| {
        let mut image = Image::provided().layer(Tar::new().file("script", "note-args args\nnext\nrespond-notes\nnext\n"), Packing::Plain);
        for place in places {
            image = image.layer(Tar::new().program(place, &probe), Packing::Plain);
        }
        image
    };
    let cases: [(&[&str], &str); 3] = [
        (&["var/runtime/bootstrap", "var/task/bootstrap", "opt/bootstrap"], "/var/runtime/bootstrap"),
        (&["var/task/bootstrap", "opt/bootstrap"], "/var/task/bootstrap"),
        (&["opt/bootstrap"], "/opt/bootstrap"),
    ];
    for (number, (places, expected)) in cases.into_iter().enumerate() {
        let name = format!("search{number}");
        fixture.layout().add(&name, &with(places));
        let notes = fixture.undocked(&["run", &fixture.image(&name)]).finish().expect_code(0).json();
        assert_eq!(notes["args"][0], expected, "{places:?}");
    }
}

#[test]
fn lambda_layers_merge_into_opt_and_the_later_one_wins() {
    skip_in_isolation!(["in-place"], "nothing is mounted: a path in the program is the program's");
    let Some(fixture) = Fixture::new() else { return };
    let layer = |name: &str, files: &[(&str, &str)]| {
        let folder = fixture.path().join(name);
        for (path, text) in files {
            fs::create_dir_all(folder.join(path).parent().expect("a path below the layer")).expect("made");
            fs::write(folder.join(path), text).expect("written");
        }
        folder.display().to_string()
    };
    let first = layer("l1", &[("only1", "1"), ("both", "1"), ("lib/only1", "1"), ("lib/both", "1")]);
    let second = layer("l2", &[("only2", "2"), ("both", "2"), ("lib/both", "2")]);
    let reads: String = ["only1", "only2", "both", "lib/only1", "lib/both"].map(|name| format!("read {name} /opt/{name}\n")).concat();
    fixture.script(&format!("{reads}write w /opt/new y\nnext\nrespond-notes\nnext"));
    let notes = fixture.run(&["--layer", &first, "--layer", &second], &[]).finish().expect_code(0).json();
    assert_eq!(notes["both"], "2");
    assert_eq!(notes["lib/both"], "2");
    assert_eq!((&notes["only1"], &notes["only2"], &notes["lib/only1"]), (&json!("1"), &json!("2"), &json!("1")));
    assert_eq!(notes["w"], place::refused_write());
    assert_eq!(fs::read_to_string(format!("{first}/both")).expect("still there"), "1", "merging must not touch the layers");
    let one = fixture.run(&["--layer", &second], &[]).finish().expect_code(0).json();
    assert_eq!((&one["both"], &one["only1"]), (&json!("2"), &json!("ENOENT")));
    fixture.expect_nothing_left();
}

#[test]
fn a_plain_command_passes_its_streams_and_exit_code_through() {
    let Some(fixture) = Fixture::new() else { return };
    let run = |rest: &[&str]| fixture.run(&["--entrypoint", "/var/task/bootstrap"], rest).finish();
    let ran = run(&["--line", "out from", "out\\n", ";", "err from", "err\\n", ";", "exit", "7"]).expect_code(7);
    assert_eq!((ran.out().as_str(), ran.err().contains("from err\n")), ("from out\n", true), "no frame, no START: {}", ran.err());
    assert!(!ran.err().contains("START RequestId"));
    assert_eq!(run(&["--line", "segfault"]).code(), 139);
    let folder = fixture.run(&["--entrypoint", "/var/task/bootstrap", "-w", "/opt"], &["--line", "note-cwd c ; print-notes"]);
    assert_eq!(folder.finish().expect_code(0).out(), "{\"c\":\"/opt\"}\n");
}

#[test]
fn json_prints_one_object_of_version_1() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nout logged\\n\nrespond {\"a\": 1}\nnext");
    let ran = fixture.run(&["--json"], &[]).finish().expect_code(0);
    let object: Value = serde_json::from_slice(&ran.stdout).expect("stdout is one object");
    assert_eq!(object["version"], 1);
    assert_eq!(object["payload"], json!({"a": 1}));
    assert_eq!(object["functionError"], Value::Null);
    assert_eq!(object["exitCode"], 0);
    let report = &object["report"];
    assert_eq!(report["memorySizeMb"], 1536);
    for figure in ["initMs", "durationMs", "billedMs", "maxMemoryUsedMb"] {
        assert!(report[figure].as_f64().is_some_and(|value| value >= 0.0), "{figure}: {report}");
    }
    let tail = object["logTail"].as_str().expect("text");
    assert!(tail.starts_with("START RequestId: ") && tail.contains("\nlogged\n") && tail.ends_with("\t\n"), "{tail:?}");

    fixture.script("next\nerror {\"errorMessage\":\"boom\",\"errorType\":\"E\"}\nnext");
    let ran = fixture.run(&["--json"], &[]).finish().expect_code(1);
    let object: Value = serde_json::from_slice(&ran.stdout).expect("stdout is one object");
    assert_eq!(object["functionError"], "Unhandled");
    assert_eq!(object["payload"]["errorMessage"], "boom");
    assert_eq!(object["exitCode"], 1);
}

#[test]
fn the_log_tail_of_json_is_the_last_4096_bytes() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nout-lines 2000\nrespond {}\nnext");
    let ran = fixture.run(&["--json"], &[]).finish().expect_code(0);
    let object: Value = serde_json::from_slice(&ran.stdout).expect("stdout is one object");
    let tail = object["logTail"].as_str().expect("text");
    assert_eq!(tail.len(), 4096);
    assert!(tail.contains("line 1999\nEND RequestId: ") && !tail.contains("line 0\n"), "{tail}");
}

/// As docker makes them: below `/tmp`, which is the sandbox's own, and in volumes that may be written to, where they stay.
#[test]
fn places_are_made_below_tmp_and_in_volumes() {
    skip_in_isolation!(["chroot", "in-place"], "no `/tmp` of its own");
    let Some(fixture) = Fixture::new() else { return };
    let [shown, around] = ["shown", "around"].map(|name| fixture.path().join(name));
    for folder in [&shown, &around] {
        fs::create_dir(folder).expect("made");
    }
    fs::write(shown.join("file"), "shown").expect("written");
    let volume = |source: &Path, rest: &str| format!("{}:{rest}", source.display());
    let [deep, file, data, second] = [
        volume(&shown, "/tmp/some/deep:ro"),
        volume(&shown.join("file"), "/tmp/some/file:ro"),
        volume(&shown, "/around/new/data:ro"),
        volume(&shown.join("file"), "/around/file:ro"),
    ];
    let around_it = volume(&around, "/around");
    fixture.script(
        "read deep /tmp/some/deep/file\nread file /tmp/some/file\nread data /around/new/data/file\nread second /around/file\nstat some /tmp/some\n\
         write refused /tmp/some/deep/new x\nwrite beside /tmp/some/new x\nwrite own /tmp/new x\nnext\nrespond-notes\nnext",
    );
    let options = ["-v", &deep, "-v", &file, "-v", &data, "-v", &second, "-v", &around_it];
    let notes = fixture.run(&options, &[]).finish().expect_code(0).json();
    for name in ["deep", "file", "data", "second"] {
        assert_eq!(notes[name], "shown", "{name}");
    }
    assert_eq!((&notes["refused"], &notes["beside"], &notes["own"]), (&json!("EROFS"), &json!("ok"), &json!("ok")));
    assert_eq!(notes["some"]["mode"], "755");
    assert!(around.join("new/data").is_dir() && around.join("file").is_file());
    assert_eq!(fs::read_dir(&shown).expect("there").count(), 1);
    // One that may not be written to is left as it is.
    let none = volume(&shown, "/var/task/none:ro");
    let refused = fixture.run(&["-v", &none], &[]).finish().expect_code(125);
    let said = "there is no `/var/task/none` to show a volume at, and `/var/task` is read-only";
    assert!(refused.err().contains(said) && refused.err().contains("hint: make it yourself: `mkdir -p "), "{}", refused.err());
    assert!(!fixture.task().join("none").exists());
    fixture.expect_nothing_left();
}

/// Where nothing is mounted, `/tmp` may be written to with all that lies in it.
#[test]
fn without_mounts_no_volume_is_shown_below_tmp() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond 1\nnext");
    let volume = format!("{}:/tmp/in:ro", fixture.task().display());
    let image = fixture.image("provided");
    // `chroot` is root's alone.
    for (isolation, image) in [("chroot", image.as_str()), ("in-place", "host")].into_iter().skip(usize::from(!is_root())) {
        let ran = fixture.undocked(&["run", "--isolation", isolation, "-v", &volume, image]).finish().expect_code(125);
        let said = format!("no volume can be shown at `/tmp/in`: `{isolation}` has no `/tmp` of the sandbox's own");
        assert!(ran.err().contains(&said), "{}", ran.err());
    }
}
