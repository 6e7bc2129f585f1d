use super::*;

struct Case<'a> {
    entrypoint: &'a [&'a str],
    cmd: &'a [&'a str],
    arguments: &'a [&'a str],
    given: &'a [(&'a str, &'a str)],
    instead: Option<&'a str>,
    legacy: bool,
    image: &'a [(&'a str, &'a str)],
    unknown: UnknownEntrypoint,
}

const NOTHING: Case<'static> = Case {
    entrypoint: &[],
    cmd: &[],
    arguments: &[],
    given: &[],
    instead: None,
    legacy: false,
    image: &[],
    unknown: UnknownEntrypoint::Function,
};
const RAPID: &[&str] = &["/var/rapid/init", "--bootstrap", "/var/runtime/bootstrap", "--enable-msg-logs"];

impl Case<'_> {
    fn entry(&self) -> Result<Entry, EntryError> {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let given: Vec<_> = self.given.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
        let image: Vec<_> = self.image.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        entry(&EntryRequest {
            arguments: &self.arguments.iter().map(Into::into).collect::<Vec<_>>(),
            entrypoint: self.instead.map(OsStr::new),
            image_entrypoint: &texts(self.entrypoint),
            image_cmd: &texts(self.cmd),
            has_legacy_server: self.legacy,
            unknown: self.unknown,
            sources: Sources { given: &given, own_settings: &[], image: &image },
        })
    }

    #[track_caller]
    fn refused(&self) -> String {
        self.entry().unwrap_err().to_string()
    }
}

fn bootstrap(first: &str, arguments: &[&str], handler: &str, event: &str) -> Entry {
    Entry::Bootstrap {
        candidates: [first, "/var/task/bootstrap", "/opt/bootstrap"].map(str::to_owned).to_vec(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        handler: handler.to_owned(),
        event: Event::Bytes(event.as_bytes().to_vec()),
    }
}

fn entrypoint(argv: &[&str], handler: Option<&str>, event: &str) -> Entry {
    Entry::Entrypoint {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        handler: handler.map(str::to_owned),
        event: Event::Bytes(event.as_bytes().to_vec()),
    }
}

fn plain(argv: &[&str]) -> Entry {
    Entry::Plain { argv: argv.iter().map(|&word| word.to_owned()).collect() }
}

#[test]
fn docker_lambdas_server_is_stood_in_for() {
    let default = "/var/runtime/bootstrap";
    for (entrypoint, arguments, expected) in [
        (RAPID, &[][..], bootstrap(default, &[], "handler", "{}")),
        (&["/var/runtime/init"], &["index.handler", "{\"a\":1}"], bootstrap(default, &[], "index.handler", "{\"a\":1}")),
        (RAPID, &["h", ""], bootstrap(default, &[], "h", "")),
        (RAPID, &["h", "not json", "ignored"], bootstrap(default, &[], "h", "not json")),
        (RAPID, &["--bootstrap", "/b", "h"], bootstrap("/b", &[], "h", "{}")),
        (RAPID, &["-bootstrap=/b", "--enable-msg-logs=false", "--", "-h"], bootstrap("/b", &[], "-h", "{}")),
        (RAPID, &["--bootstrap-args", "[\"a\", \"b c\"]", "h", "--bootstrap=x"], bootstrap(default, &["a", "b c"], "h", "--bootstrap=x")),
        (&["/var/rapid/inner/init"], &["h"], bootstrap(default, &[], "h", "{}")),
        (&["/elsewhere/init", "--bootstrap", "/moved/bootstrap"], &["h"], bootstrap("/moved/bootstrap", &[], "h", "{}")),
    ] {
        assert_eq!(Case { entrypoint, arguments, ..NOTHING }.entry().unwrap(), expected, "{entrypoint:?} {arguments:?}");
    }
    // A legacy server beside it is not the entrypoint, and default arguments count when none are given.
    let case = Case { entrypoint: RAPID, cmd: &["cmd.handler"], legacy: true, ..NOTHING };
    assert_eq!(case.entry().unwrap(), bootstrap(default, &[], "cmd.handler", "{}"));
}

#[test]
fn handler_and_event_of_the_variables() {
    let default = "/var/runtime/bootstrap";
    for (given, arguments, handler, event) in [
        (&[("AWS_LAMBDA_FUNCTION_HANDLER", "a.h"), ("_HANDLER", "b.h")][..], &[][..], "a.h", "{}"),
        (&[("AWS_LAMBDA_FUNCTION_HANDLER", ""), ("_HANDLER", "b.h")], &[], "b.h", "{}"),
        (&[("_HANDLER", "b.h"), ("AWS_LAMBDA_EVENT_BODY", "[1]")], &["c.h"], "c.h", "[1]"),
        (&[("AWS_LAMBDA_EVENT_BODY", "[1]"), ("DOCKER_LAMBDA_USE_STDIN", "1")], &["c.h", "2"], "c.h", "2"),
        (&[("AWS_LAMBDA_EVENT_BODY", "[1]"), ("DOCKER_LAMBDA_USE_STDIN", "1")], &[], "handler", "[1]"),
        (&[("AWS_LAMBDA_EVENT_BODY", ""), ("DOCKER_LAMBDA_USE_STDIN", "")], &[], "handler", "{}"),
    ] {
        let case = Case { entrypoint: RAPID, given, arguments, ..NOTHING };
        assert_eq!(case.entry().unwrap(), bootstrap(default, &[], handler, event), "{given:?} {arguments:?}");
    }
    for (given, arguments) in [(&[("DOCKER_LAMBDA_USE_STDIN", "0")][..], &["h"][..]), (&[], &["h", "-"])] {
        let entry = Case { entrypoint: RAPID, given, arguments, ..NOTHING }.entry().unwrap();
        assert!(matches!(entry, Entry::Bootstrap { event: Event::Stdin, .. }), "{given:?}");
    }
}

#[test]
fn any_other_entrypoint_takes_the_handler() {
    const AWS: &[&str] = &["/lambda-entrypoint.sh"];
    const CLIENT: &[&str] = &["/moved/python", "-m", "awslambdaric"];
    for (image, cmd, arguments, expected) in [
        (AWS, &[][..], &["app.handler", "{}"][..], entrypoint(&["/lambda-entrypoint.sh", "app.handler"], Some("app.handler"), "{}")),
        (AWS, &[], &[], entrypoint(&["/lambda-entrypoint.sh"], None, "{}")),
        (CLIENT, &["app.handler"], &[], entrypoint(&["/moved/python", "-m", "awslambdaric", "app.handler"], Some("app.handler"), "{}")),
        (CLIENT, &["app.handler"], &["other.h"], entrypoint(&["/moved/python", "-m", "awslambdaric", "other.h"], Some("other.h"), "{}")),
        (
            CLIENT,
            &["app.handler"],
            &["", "[1]"],
            entrypoint(&["/moved/python", "-m", "awslambdaric", "app.handler"], Some("app.handler"), "[1]"),
        ),
        (&["/main"], &["a", "b"], &[], entrypoint(&["/main", "a", "b"], None, "{}")),
        (
            &["/usr/local/bin/aws-lambda-rie", "--log-level", "debug", "--enable-init-caching", "/main"],
            &[],
            &["h"],
            entrypoint(&["/main", "h"], Some("h"), "{}"),
        ),
        (&["/sbin/init"], &[], &["h"], entrypoint(&["/sbin/init", "h"], Some("h"), "{}")),
        (&["init", "--bootstrap"], &[], &["h"], entrypoint(&["init", "--bootstrap", "h"], Some("h"), "{}")),
        (&["/var/rapids/init"], &[], &["h"], entrypoint(&["/var/rapids/init", "h"], Some("h"), "{}")),
    ] {
        let case = Case { entrypoint: image, cmd, arguments, ..NOTHING };
        assert_eq!(case.entry().unwrap(), expected, "{image:?} {cmd:?} {arguments:?}");
    }
    let case = Case { entrypoint: AWS, given: &[("_HANDLER", "v.h")], ..NOTHING };
    assert_eq!(case.entry().unwrap(), entrypoint(&["/lambda-entrypoint.sh", "v.h"], Some("v.h"), "{}"));
    let case = Case { entrypoint: &["/usr/bin/aws-lambda-rie"], arguments: &["h"], ..NOTHING };
    assert_eq!(case.entry().unwrap(), entrypoint(&["h"], Some("h"), "{}"));
    let case = Case { entrypoint: &["/usr/bin/aws-lambda-rie"], ..NOTHING };
    assert!(matches!(case.entry().unwrap(), Entry::Bootstrap { candidates, .. } if candidates.len() == 3));
}

#[test]
fn plain_commands_as_docker_has_them() {
    for (image, cmd, arguments, instead, expected) in [
        (&[][..], &["bash"][..], &[][..], None, plain(&["bash"])),
        (&[], &["bash"], &["ls", "-l"], None, plain(&["ls", "-l"])),
        (RAPID, &["x"], &["-c", "echo"], Some("sh"), plain(&["sh", "-c", "echo"])),
        (RAPID, &["x"], &[], Some("sh"), plain(&["sh"])),
        (RAPID, &["x"], &["/bin/sh", "-c", "true"], Some(""), plain(&["/bin/sh", "-c", "true"])),
    ] {
        let case = Case { entrypoint: image, cmd, arguments, instead, ..NOTHING };
        assert_eq!(case.entry().unwrap(), expected, "{image:?} {cmd:?} {arguments:?} {instead:?}");
    }
    assert!(matches!(NOTHING.entry(), Err(EntryError::NoCommand)));
    assert!(matches!(Case { entrypoint: RAPID, cmd: &["x"], instead: Some(""), ..NOTHING }.entry(), Err(EntryError::NoCommand)));
    // Switches of functions mean nothing to a plain command.
    let case = Case { cmd: &["bash"], given: &[("DOCKER_LAMBDA_STAY_OPEN", "1")], ..NOTHING };
    assert_eq!(case.entry().unwrap(), plain(&["bash"]));
}

#[test]
fn refusals_name_what_was_asked_for() {
    let flags = |arguments| Case { entrypoint: RAPID, arguments, ..NOTHING }.refused();
    assert_eq!(flags(&["--foo", "h"]), "unknown flag `--foo` for this image");
    assert_eq!(flags(&["-h"]), "unknown flag `-h` for this image");
    assert_eq!(flags(&["--bootstrap"]), "the flag `--bootstrap` of this image needs a value");
    assert_eq!(flags(&["--bootstrap-args", "{}"]), "`--bootstrap-args` is not a JSON array of strings");
    let case = Case { entrypoint: &["/e"], arguments: &["h", "{}", "x"], ..NOTHING };
    assert_eq!(case.refused(), "unexpected argument `x` after the event");
    assert!(case.entry().unwrap_err().is_usage());
    let case = Case { entrypoint: RAPID, given: &[("DOCKER_LAMBDA_NO_BOOTSTRAP", "1")], ..NOTHING };
    assert_eq!(case.refused(), "`DOCKER_LAMBDA_NO_BOOTSTRAP`: waiting for a runtime of your own comes with a later release");
    assert!(!case.entry().unwrap_err().is_usage());
    let case = Case { entrypoint: NODE, arguments: &["h", "{}", "x"], legacy: true, ..NOTHING };
    assert_eq!(case.refused(), "unexpected argument `x` after the event");
}

const NODE: &[&str] = &["/var/lang/bin/node", "--expose-gc", "/var/runtime/node_modules/awslambda/index.js"];

#[test]
fn the_oldest_images_run_their_own_program() {
    const PYTHON: &[&str] = &["/var/lang/bin/python3.6", "/var/runtime/awslambda/bootstrap.py"];
    const JAVA: &[&str] = &["/usr/bin/java", "-XX:+UseSerialGC", "-jar", "/var/runtime/lib/LambdaJavaRTEntry-1.0.jar"];
    const GO: &[&str] = &["/var/runtime/aws-lambda-go"];
    const DOTNET: &[&str] = &["/var/lang/bin/dotnet", "/var/runtime/MockBootstraps.dll"];
    for (entrypoint, arguments, words, handler, event) in [
        (NODE, &[][..], &["index.handler"][..], Some("index.handler"), "{}"),
        (NODE, &["a.b", "{\"a\": 1}"], &["a.b", "{\"a\": 1}"], Some("a.b"), "{\"a\": 1}"),
        (NODE, &["", "1"], &["index.handler", "1"], Some("index.handler"), "1"),
        (PYTHON, &[], &["lambda_function.lambda_handler"], Some("lambda_function.lambda_handler"), "{}"),
        (JAVA, &[], &["index.Handler"], Some("index.Handler"), "{}"),
        (
            GO,
            &["-debug", "-delvePort", "1", "--delveAPI=2", "h", "-1"],
            &["-debug", "-delvePort", "1", "--delveAPI=2", "h", "-1"],
            Some("h"),
            "-1",
        ),
        (GO, &["-delvePath"], &["-delvePath", "handler"], Some("handler"), "{}"),
        (DOTNET, &["A::B::C", "--debugger-spin-wait", "2"], &["--debugger-spin-wait", "A::B::C", "2"], Some("A::B::C"), "2"),
        (DOTNET, &[], &[], None, "{}"),
        (&["/bin/sh", "-c", "exec node"], &["x"], &["x"], Some("x"), "{}"),
    ] {
        let entry = Case { entrypoint, arguments, legacy: true, ..NOTHING }.entry().unwrap();
        assert_eq!(entry, legacy([entrypoint, words].concat(), handler, event.into()), "{entrypoint:?} {arguments:?}");
    }
    let case = Case { entrypoint: NODE, cmd: &["c.h", "5"], legacy: true, ..NOTHING };
    assert_eq!(case.entry().unwrap(), legacy([NODE, &["c.h", "5"]].concat(), Some("c.h"), "5".into()));
}

#[test]
fn the_oldest_images_take_the_event_of_the_variable_first() {
    let given = &[("AWS_LAMBDA_EVENT_BODY", "[1]"), ("_HANDLER", "v.h")];
    let case = Case { entrypoint: NODE, given, arguments: &["", "2"], legacy: true, ..NOTHING };
    assert_eq!(case.entry().unwrap(), legacy([NODE, &["v.h", "2"]].concat(), Some("v.h"), "[1]".into()));
    let case = Case { entrypoint: NODE, arguments: &["h", "-"], legacy: true, ..NOTHING };
    assert!(matches!(case.entry().unwrap(), Entry::Legacy { argv, event: Event::Stdin, .. } if argv.len() == 4));
    // Longer than the kernel lets an argument be: the event does not go that way.
    let long = "1".repeat(128 * 1024);
    let case = Case { entrypoint: NODE, arguments: &["h", "\"é\""], legacy: true, ..NOTHING };
    assert_eq!(case.entry().unwrap(), legacy([NODE, &["h"]].concat(), Some("h"), "\"é\"".into()));
    let case = Case { entrypoint: NODE, arguments: &["h", &long], legacy: true, ..NOTHING };
    assert_eq!(case.entry().unwrap(), legacy([NODE, &["h"]].concat(), Some("h"), long.as_str().into()));
}

fn legacy(argv: Vec<&str>, handler: Option<&str>, event: Vec<u8>) -> Entry {
    let argv = argv.into_iter().map(str::to_owned).collect();
    Entry::Legacy { argv, handler: handler.map(str::to_owned), event: Event::Bytes(event) }
}

#[test]
fn under_dockers_name_an_entrypoint_without_a_sign_of_lambda_is_a_command() {
    let task_root = &[("PATH", "/bin"), ("LAMBDA_TASK_ROOT", "/var/task")][..];
    let handler = &["app.handler"][..];
    for (words, image, is_function) in [
        (&["/usr/local/bin/aws"][..], &[][..], false),
        (&["/docker-entrypoint.sh"], &[("PATH", "/bin"), ("NOT_LAMBDA_TASK_ROOT", "1")], false),
        (&["/main"], &[], false),
        (&["/main"], task_root, true),
        (&["./main"], &[("LAMBDA_RUNTIME_DIR", "/var/runtime")], true),
        (&["/lambda-entrypoint.sh"], &[], true),
        (&["/usr/local/bin/python", "-m", "awslambdaric"], &[], true),
        (&["/usr/local/bin/npx", "aws-lambda-ric"], &[], true),
        (&["node", "node_modules/aws-lambda-ric/bin/index.mjs"], &[], true),
        (&["/usr/local/bundle/bin/aws_lambda_ric"], &[], true),
        (&["/usr/bin/java", "-cp", "./*", "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"], &[], true),
        (&["/usr/local/bin/aws-lambda-rie", "/main"], &[], true),
        (&["/var/runtime/bootstrap"], &[], true),
        (RAPID, &[], true),
    ] {
        let case =
            Case { entrypoint: words, cmd: &["of-the-image"], arguments: handler, image, unknown: UnknownEntrypoint::Command, ..NOTHING };
        let expected = if is_function {
            Case { unknown: UnknownEntrypoint::Function, ..case }.entry().unwrap()
        } else {
            plain(&[words, handler].concat())
        };
        assert_eq!(case.entry().unwrap(), expected, "{words:?}");
        let case = Case { arguments: &[], ..case };
        if !is_function {
            assert_eq!(case.entry().unwrap(), plain(&[words, &["of-the-image"]].concat()), "{words:?}");
        }
    }
    let legacy = Case { entrypoint: &["/usr/bin/python"], legacy: true, unknown: UnknownEntrypoint::Command, ..NOTHING };
    assert!(matches!(legacy.entry().unwrap(), Entry::Legacy { .. }));
}

#[test]
fn the_emulator_as_the_entrypoint_asked_for_is_us() {
    for (arguments, argv, handler) in [
        (&["/main"][..], &["/main"][..], None),
        (
            &["/usr/local/bin/python", "-m", "awslambdaric", "app.handler"],
            &["/usr/local/bin/python", "-m", "awslambdaric", "app.handler"],
            Some("app.handler"),
        ),
        (
            &["--log-level", "debug", "/usr/local/bin/npx", "aws-lambda-ric", "index.handler"],
            &["/usr/local/bin/npx", "aws-lambda-ric", "index.handler"],
            Some("index.handler"),
        ),
    ] {
        for unknown in [UnknownEntrypoint::Function, UnknownEntrypoint::Command] {
            let case = Case { instead: Some("/aws-lambda/aws-lambda-rie"), entrypoint: &["/x"], arguments, unknown, ..NOTHING };
            assert_eq!(case.entry().unwrap(), entrypoint(argv, handler, "{}"), "{arguments:?}");
        }
    }
    let alone = Case { instead: Some("/aws-lambda/aws-lambda-rie"), ..NOTHING };
    assert_eq!(alone.refused(), "no command given, and the image has neither entrypoint nor default command");
}
