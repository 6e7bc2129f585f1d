use std::time::Duration;

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

struct Case<'a> {
    given: Pairs<'a>,
    own: Pairs<'a>,
    image: Pairs<'a>,
    userland: Userland<'a>,
    token: SessionToken,
    memory: Option<&'a str>,
    timeout: Option<&'a str>,
}

const BARE: Case<'static> =
    Case { given: &[], own: &[], image: &[], userland: Userland::Image, token: SessionToken::WhenKnown, memory: None, timeout: None };

impl Case<'_> {
    fn result(&self) -> Result<(Function, EnvVars), SettingError> {
        let os = |pairs: Pairs<'_>| pairs.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect::<Vec<_>>();
        let image: Vec<_> = self.image.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let setup = Setup {
            sources: Sources { given: &os(self.given), own_settings: &os(self.own), image: &image },
            userland: self.userland,
            handler: Some("index.handler"),
            session_token: self.token,
            memory: self.memory.map(|text| text.parse().unwrap()),
            timeout: self.timeout.map(|text| text.parse().unwrap()),
        };
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        function(&setup, &Unique { now, random: [0x0123_4567_89ab_cdef, 0xfe], account: 7 })
    }

    #[track_caller]
    fn variables(&self) -> EnvVars {
        self.result().unwrap().1
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, Option<&str>)]) {
        let variables = self.variables();
        for &(name, value) in expected {
            assert_eq!(variables.get(name).map(|value| value.to_str().unwrap()), value, "{name}");
        }
    }
}

#[test]
fn defaults_of_the_table() {
    BARE.check(&[
        ("AWS_LAMBDA_FUNCTION_NAME", Some("test")),
        ("AWS_LAMBDA_FUNCTION_VERSION", Some("$LATEST")),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", Some("1536")),
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", None),
        ("AWS_LAMBDA_LOG_GROUP_NAME", Some("/aws/lambda/test")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", Some("2026/09/21/[$LATEST]0123456789abcdef00000000000000fe")),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", Some("on-demand")),
        ("AWS_REGION", Some("us-east-1")),
        ("AWS_DEFAULT_REGION", Some("us-east-1")),
        ("AWS_ACCESS_KEY_ID", Some("")),
        ("AWS_SECRET_ACCESS_KEY", Some("")),
        ("AWS_SESSION_TOKEN", None),
        ("_HANDLER", Some("index.handler")),
        ("TZ", Some(":UTC")),
        ("LAMBDA_TASK_ROOT", Some("/var/task")),
        ("LAMBDA_RUNTIME_DIR", Some("/var/runtime")),
        ("AWS_XRAY_CONTEXT_MISSING", Some("LOG_ERROR")),
        ("AWS_XRAY_DAEMON_ADDRESS", Some("169.254.100.1:2000")),
        ("_AWS_XRAY_DAEMON_ADDRESS", Some("169.254.100.1")),
        ("_AWS_XRAY_DAEMON_PORT", Some("2000")),
        ("_X_AMZN_TRACE_ID", None),
        ("HOME", None),
        ("HOSTNAME", None),
        ("LANG", None),
        ("LD_LIBRARY_PATH", None),
    ]);
    let (function, _) = BARE.result().unwrap();
    assert_eq!(function.timeout.limit(), Duration::from_secs(300));
    assert_eq!(function.account_id, "100000000007");
    assert_eq!(Unique::new().account, Unique::new().account);
    assert_eq!(function.arn, format!("arn:aws:lambda:us-east-1:{}:function:test", function.account_id));
    assert_eq!((function.client_context, function.cognito_identity, function.trace_id), (None, None, None));
}

#[test]
fn the_order_of_sources() {
    let name = |given, own, image| Case { given, own, image, ..BARE }.result().unwrap().0.name;
    const NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
    assert_eq!(name(&[(NAME, "given")], &[(NAME, "own")], &[(NAME, "image")]), "given");
    assert_eq!(name(&[], &[(NAME, "own")], &[(NAME, "image")]), "own");
    assert_eq!(name(&[], &[], &[(NAME, "image")]), "image");
    // What is given as empty is "not set", as in a container where the image's variable is overridden.
    assert_eq!(name(&[(NAME, "")], &[], &[(NAME, "image")]), "test");
}

#[test]
fn settings_of_the_table() {
    let case = Case {
        given: &[
            ("AWS_ACCOUNT_ID", "1234-5678-9012"),
            ("AWS_LAMBDA_FUNCTION_NAME", "fn"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "3"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY", "key"),
            ("AWS_ACCESS_KEY_ID", "weaker"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SECURITY_TOKEN", "token"),
            ("AWS_LAMBDA_CLIENT_CONTEXT", "{\"custom\":{}}"),
            ("AWS_LAMBDA_COGNITO_IDENTITY", "{\"cognitoIdentityId\":\"a\"}"),
            ("X", "4=4"),
            ("EMPTY", ""),
        ],
        own: &[("AWS_LAMBDA_FUNCTION_TIMEOUT", "1.5"), ("DOCKER_LAMBDA_USE_STDIN", "1")],
        memory: Some("1g"),
        ..BARE
    };
    case.check(&[
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", Some("512")),
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", Some("1.5")),
        ("DOCKER_LAMBDA_USE_STDIN", None),
        ("AWS_LAMBDA_LOG_GROUP_NAME", Some("/aws/lambda/fn")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", Some("2026/09/21/[3]0123456789abcdef00000000000000fe")),
        ("AWS_REGION", Some("eu-west-1")),
        ("AWS_DEFAULT_REGION", Some("eu-west-1")),
        ("AWS_ACCESS_KEY_ID", Some("key")),
        ("AWS_SECRET_ACCESS_KEY", Some("secret")),
        ("AWS_SESSION_TOKEN", Some("token")),
        ("X", Some("4=4")),
        ("EMPTY", Some("")),
    ]);
    let (function, _) = case.result().unwrap();
    assert_eq!(function.arn, "arn:aws:lambda:eu-west-1:123456789012:function:fn");
    assert_eq!(function.timeout.limit(), Duration::from_millis(1500));
    assert_eq!(function.client_context.as_deref(), Some("{\"custom\":{}}"));
    assert_eq!(function.cognito_identity.as_deref(), Some("{\"cognitoIdentityId\":\"a\"}"));
    let arn = Case { given: &[("AWS_LAMBDA_FUNCTION_INVOKED_ARN", "arn:mine")], ..BARE }.result().unwrap().0.arn;
    assert_eq!(arn, "arn:mine");
}

#[test]
fn the_images_variables() {
    let image: Pairs<'_> = &[
        ("PATH", "/var/lang/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("TZ", ":/etc/localtime"),
        ("_LAMBDA_LOG_FD", "9"),
        ("_LAMBDA_CONTROL_SOCKET", "14"),
        ("AWS_XRAY_DAEMON_ADDRESS", "169.254.79.2:2000"),
        ("_X_AMZN_TRACE_ID", "Root=1-a"),
        ("AWS_SESSION_TOKEN", ""),
        ("LAMBDA_TASK_ROOT", "/elsewhere"),
    ];
    let case = Case { image, ..BARE };
    case.check(&[
        ("PATH", Some("/var/lang/bin:/bin")),
        ("LANG", Some("C.UTF-8")),
        ("TZ", Some(":UTC")),
        ("_LAMBDA_LOG_FD", None),
        ("_LAMBDA_CONTROL_SOCKET", None),
        ("AWS_XRAY_DAEMON_ADDRESS", Some("169.254.79.2:2000")),
        ("AWS_SESSION_TOKEN", None),
        ("LAMBDA_TASK_ROOT", Some("/elsewhere")),
    ]);
    assert_eq!(case.result().unwrap().0.trace_id.as_deref(), Some("Root=1-a"));
    Case { image, given: &[("TZ", "Europe/Berlin"), ("PATH", "/mine")], ..BARE }
        .check(&[("TZ", Some("Europe/Berlin")), ("PATH", Some("/mine"))]);
    Case { token: SessionToken::Always, ..BARE }.check(&[("AWS_SESSION_TOKEN", Some(""))]);
}

#[test]
fn the_hosts_userland_has_lambdas_paths() {
    let case = Case { userland: Userland::Host { interpreter_dir: Some("/pyenv/bin") }, ..BARE };
    case.check(&[
        ("PATH", Some("/pyenv/bin:/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin")),
        ("LD_LIBRARY_PATH", Some("/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib")),
        ("LANG", Some("en_US.UTF-8")),
    ]);
}

#[test]
fn memory_and_timeout() {
    let memory = |given: Pairs<'_>, memory: Option<&str>| Case { given, memory, ..BARE }.result().map(|(function, _)| function.memory.mb());
    assert_eq!(memory(&[], Some("1.5g")), Ok(1536));
    assert_eq!(memory(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")], Some("512m")), Ok(512));
    for wrong in ["abc", "0", "-1", "1.5", "512m", " 512"] {
        let error = memory(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", wrong)], None).unwrap_err();
        assert!(error.to_string().starts_with("`AWS_LAMBDA_FUNCTION_MEMORY_SIZE` is"), "{error}");
    }
    let timeout = |given: Pairs<'_>, timeout: Option<&str>| {
        Case { given, timeout, ..BARE }.result().map(|(function, _)| function.timeout.limit().as_millis())
    };
    assert_eq!(timeout(&[("AWS_LAMBDA_FUNCTION_TIMEOUT", "3")], Some("0.5")), Ok(500));
    assert_eq!(timeout(&[("AWS_LAMBDA_FUNCTION_TIMEOUT", "0")], None), Ok(0));
    let error = timeout(&[("AWS_LAMBDA_FUNCTION_TIMEOUT", "3s")], None).unwrap_err();
    assert_eq!(error.to_string(), "`AWS_LAMBDA_FUNCTION_TIMEOUT` is no timeout");
}

#[test]
fn as_the_kernel_takes_them() {
    let mut variables = EnvVars::default();
    variables.set("A", "4=4");
    variables.set("NUL", "a\0b");
    variables.set("A", "5");
    assert_eq!(variables.to_c_strings(), [c"A=5".to_owned()]);
}

#[test]
fn plain_commands_see_the_image_and_what_is_given() {
    let given = [("A".to_owned(), "1".into())];
    let image = [("B".to_owned(), "2".to_owned())];
    let variables = plain(&Sources { given: &given, own_settings: &[("AWS_LAMBDA_FUNCTION_NAME".to_owned(), "x".into())], image: &image });
    assert_eq!(
        variables.to_c_strings(),
        [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", c"B=2", c"A=1"].map(ToOwned::to_owned)
    );
}
