//! Command lines as people and tools type them, unchanged, with our `docker` first in `PATH`: the READMEs of docker-lambda and of AWS's images, the npm module
//! docker-lambda, serverless-offline, CDK, fakecloud, and builders for Python and Terraform. Images have their real names.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tests::leftovers::eventually;
use tests::real::{self, RealFunction};
use tests::real_registry::RealRegistry;
use tests::run::Run;
use tests::{place, skip};

/// A folder with a function in it, and a cache that knows the image by its real name.
struct Tools {
    real: RealFunction,
}

impl Tools {
    /// `image` as the tests' images have it, `name` as users have it.
    fn new(image: &str, name: &str) -> Option<Tools> {
        let tools = Tools { real: real::function(image)? };
        fs::create_dir(tools.real.fixture.path().join("bin")).expect("a fresh folder");
        symlink(place::undocked(), tools.real.fixture.path().join("bin/docker")).expect("a link");
        let reference = tools.real.reference.clone();
        tools.sh(&format!("docker pull -q {reference} && docker tag {reference} {name}")).finish().expect_code(0);
        Some(tools)
    }

    /// A script, in the task folder, with our docker.
    fn sh(&self, script: &str) -> Run {
        let fixture = &self.real.fixture;
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", fixture.path().join("bin").display());
        let run = Run::new("bash").args(["-c", script]).env("PATH", path).env("UNDOCKED_CACHE", self.real.cache());
        let run = run.env("HOME", fixture.path().join("home")).env("XDG_RUNTIME_DIR", fixture.path().join("run"));
        run.current_dir(fixture.task())
    }

    fn file(&self, name: &str, text: &str) {
        self.real.file(name, text);
    }

    fn out(&self, script: &str) -> String {
        self.sh(script).finish().expect_code(0).out()
    }
}

const NODE: (&str, &str) = ("lambci/lambda:nodejs12.x", "lambci/lambda:nodejs12.x");
const PYTHON: (&str, &str) = ("lambda/python:3.11", "public.ecr.aws/lambda/python:3.11");
const ECHO: &str = "exports.handler = async event => { if (event.fail) throw new Error(event.fail); return { got: event } }";

#[test]
fn the_readme_of_docker_lambda() {
    let Some(tools) = Tools::new(NODE.0, NODE.1) else { return };
    tools.file("index.js", ECHO);
    tools.file("env", "FOO=bar\n");
    for (line, result) in [
        (r#"docker run --rm -v "$PWD":/var/task:ro,delegated lambci/lambda:nodejs12.x index.handler"#, r#"{"got":{}}"#),
        (
            r#"docker run --rm -v "$PWD":/var/task:ro,delegated lambci/lambda:nodejs12.x index.handler '{"some": "event"}'"#,
            r#"{"got":{"some":"event"}}"#,
        ),
        (
            r#"docker run --rm -v "$PWD":/var/task -e AWS_LAMBDA_FUNCTION_TIMEOUT=10 -m 1.5G lambci/lambda:nodejs12.x index.handler '1'"#,
            r#"{"got":1}"#,
        ),
        (
            r#"echo '{"in": 1}' | docker run --rm -v "$PWD":/var/task:ro,delegated -i -e DOCKER_LAMBDA_USE_STDIN=1 lambci/lambda:nodejs12.x index.handler"#,
            r#"{"got":{"in":1}}"#,
        ),
        (r#"docker run --rm --env-file env -it=false -v "$PWD":/var/task:z lambci/lambda:nodejs12.x index.handler '[]'"#, r#"{"got":[]}"#),
    ] {
        assert_eq!(tools.sh(line).finish().expect_code(0).result(), result, "{line}");
    }
    tools.sh(r#"docker run --rm -v "$PWD":/var/task lambci/lambda:nodejs12.x index.handler '{"fail":"no"}'"#).finish().expect_code(1);
    assert_eq!(tools.out("docker ps -aq"), "");
}

#[test]
fn it_stays_open_as_in_the_readme() {
    let Some(tools) = Tools::new(NODE.0, NODE.1) else { return };
    tools.file("index.js", ECHO);
    let line = r#"docker run -d --name open -e DOCKER_LAMBDA_STAY_OPEN=1 -p 9001 -v "$PWD":/var/task:ro,delegated lambci/lambda:nodejs12.x index.handler"#;
    tools.out(line);
    let called = tools.out(r#"curl -s -d '{"a":1}' "http://$(docker port open 9001)/2015-03-31/functions/myfunction/invocations""#);
    assert_eq!(called, r#"{"got":{"a":1}}"#);
    tools.out("docker rm -f open");
}

#[test]
fn the_guide_of_awss_images() {
    let Some(tools) = Tools::new(PYTHON.0, PYTHON.1) else { return };
    tools.file("app.py", "def handler(event, context):\n    return {'got': event}\n");
    tools.out(r#"docker run -d --name web -p 8080 -v "$PWD":/var/task public.ecr.aws/lambda/python:3.11 app.handler"#);
    let called = tools.out(r#"curl -s "http://localhost:$(docker port web 8080 | sed 's/.*://')/2015-03-31/functions/function/invocations" -d '{"payload":"hello world!"}'"#);
    assert_eq!(called, r#"{"got": {"payload": "hello world!"}}"#);
    assert_eq!(tools.out("docker ps -q | xargs docker kill").trim().len(), 12);
    tools.out("docker rm web");
    // An image without an emulator is given one from a folder; it is ours, whatever lies there.
    let line = r#"docker run --platform linux/amd64 -d -v ~/.aws-lambda-rie:/aws-lambda -p 8080 --name base -e PYTHONPATH=/var/runtime -v "$PWD":/var/task \
        --entrypoint /aws-lambda/aws-lambda-rie \
        public.ecr.aws/lambda/python:3.11 \
            /var/lang/bin/python3.11 -m awslambdaric app.handler"#;
    tools.out(line);
    let called = tools
        .out(r#"curl -s "http://localhost:$(docker port base 8080 | sed 's/.*://')/2015-03-31/functions/function/invocations" -d '{}'"#);
    assert_eq!(called, r#"{"got": {}}"#);
    tools.out("docker rm -f base");
}

/// From a folder to a registry that wants a login, as the guide has it for ECR: its lines, with the registry's name and a free port in them.
#[test]
fn the_guide_from_the_build_to_the_push() {
    let Some(tools) = Tools::new(PYTHON.0, PYTHON.1) else { return };
    let Some(plain) = RealRegistry::start() else { return };
    let registry = plain.with_tokens();
    let to = format!("{}/hello-world", registry.address());
    tools.file("lambda_function.py", "def handler(event, context):\n    return {'built': event}\n");
    tools.file(
        "Dockerfile",
        "FROM public.ecr.aws/lambda/python:3.11\n\n# Copy function code\nCOPY lambda_function.py ${LAMBDA_TASK_ROOT}\n\n# Set the CMD to your handler (could \
         also be done as a parameter override outside of the Dockerfile)\nCMD [ \"lambda_function.handler\" ]\n",
    );
    assert_eq!(tools.out("docker buildx build --platform linux/amd64 --provenance=false -t docker-image:test ."), "");
    let call = |name: &str| {
        tools.out(&format!(
            r#"curl -s "http://localhost:$(docker port {name} 8080 | sed 's/.*://')/2015-03-31/functions/function/invocations" -d '{{}}'"#
        ))
    };
    tools.out("docker run --platform linux/amd64 -d --name image -p 8080 docker-image:test");
    assert_eq!(call("image"), r#"{"built": {}}"#);
    assert!(tools.out("docker logs image 2>&1").contains("(rapid) exec '/var/runtime/bootstrap' (cwd=/var/task, handler=)\n"));
    // With the emulator of the image itself, which we are, and a client that is told by its command line.
    let line = "docker run -d --name client -p 8080 -e PYTHONPATH=/var/runtime --entrypoint /usr/local/bin/aws-lambda-rie docker-image:test /var/lang/bin/python3.11 \
                -m awslambdaric lambda_function.handler";
    tools.out(line);
    assert_eq!(call("client"), r#"{"built": {}}"#);
    let said = "(rapid) exec '/var/lang/bin/python3.11' (cwd=/var/task, handler=lambda_function.handler)\n";
    assert!(tools.out("docker logs client 2>&1").contains(said));
    tools.out("docker kill $(docker ps -q); docker rm image client");
    tools.out(&format!("docker tag docker-image:test {to}:latest"));
    tools.sh(&format!("docker push {to}:latest")).finish().expect_code(1);
    let login = format!("echo secret | docker login --username test --password-stdin {}", registry.address());
    assert!(tools.out(&login).ends_with("Login Succeeded\n"));
    assert!(tools.out(&format!("docker push {to}:latest")).contains("latest: digest: sha256:"));
    // In one go, by two names; then it is there for whoever has nothing of it.
    assert_eq!(tools.out(&format!("docker buildx build --push --provenance=false -t {to}:1 -t {to}:2 .")), "");
    tools.out(&format!("docker rmi {to}:latest {to}:1 {to}:2 docker-image:test"));
    let line = format!("docker run --rm -d --name pulled -p 8080 {to}:2");
    tools.out(&line);
    assert_eq!(call("pulled"), r#"{"built": {}}"#);
    tools.out("docker rm -f pulled");
    tools.sh("docker buildx build --push .").finish().expect_code(1).expect_err("a tag is needed when pushing to a registry");
}

/// The module as it is on npm, which knows nothing of us.
#[test]
fn the_npm_module_docker_lambda() {
    let modules = place::clients().join("node/node_modules");
    if !modules.join("docker-lambda").exists() {
        skip!("docker-lambda is not installed (tests/clients/install.sh)");
    }
    if !skip::has_program("node") {
        skip!("node is not installed (Debian package nodejs)");
    }
    let Some(tools) = Tools::new(NODE.0, NODE.1) else { return };
    tools.file("index.js", ECHO);
    let program = "
        const run = require('docker-lambda')
        const dockerImage = 'lambci/lambda:nodejs12.x'
        const answers = [run({ dockerImage, event: { a: 1 } }), run({ dockerImage, addEnvVars: true, dockerArgs: ['-m', '1.5G'] })]
        try { run({ dockerImage, event: { fail: 'no' } }) } catch (error) { answers.push([error.code, JSON.parse(error.message).errorMessage]) }
        answers.push(run({ dockerImage, returnSpawnResult: true }).status)
        console.log(JSON.stringify(answers))";
    tools.file("program.js", program);
    let ran = tools.sh("node program.js").env("NODE_PATH", &modules).finish().expect_code(0);
    assert_eq!(ran.out(), "[{\"got\":{\"a\":1}},{\"got\":{}},[1,\"no\"],0]\n");
}

#[test]
fn serverless_offline() {
    let Some(tools) = Tools::new(PYTHON.0, PYTHON.1) else { return };
    tools.file("app.py", "def handler(event, context):\n    return {'got': event}\n");
    assert_eq!(tools.out("docker version --format {{.Server.Os}}"), "linux\n");
    let gateway = tools.out("docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}'");
    let create = format!(
        r#"docker create -v "$PWD":/var/task:ro,delegated -p 8080 -e A=1 --add-host host.docker.internal:{} public.ecr.aws/lambda/python:3.11 app.handler"#,
        gateway.trim()
    );
    let id = tools.out(&create).trim().to_owned();
    let started = tools.sh(&format!("docker start -a {id}")).start();
    started.wait_for_stderr("(cwd=/var/task, handler=)");
    let called = tools.out(&format!(
        r#"curl -s "http://localhost:$(docker port {id} | sed 's/.*://')/2015-03-31/functions/function/invocations" -d '{{"a":1}}'"#
    ));
    assert_eq!(called, r#"{"got": {"a": 1}}"#);
    tools.out(&format!("docker stop {id}"));
    started.finish().expect_code(0);
    assert_eq!(tools.out(&format!("docker rm {id}")).trim(), id);
}

/// What CDK's bundling types, in both of its ways.
#[test]
fn cdk() {
    let Some(tools) = Tools::new(NODE.0, NODE.1) else { return };
    let folder = tools.real.fixture.path().join("out");
    fs::create_dir(&folder).expect("a fresh folder");
    let line = format!(
        r#"docker run --rm -u "$(id -u):$(id -g)" -v "$PWD":/asset-input:delegated -v {}:/asset-output:delegated --env K=V -w /asset-input --entrypoint bash lambci/lambda:nodejs12.x -c 'echo $K > /asset-output/made && pwd'"#,
        folder.display()
    );
    assert_eq!(tools.out(&line), "/asset-input\n");
    assert_eq!(fs::read_to_string(folder.join("made")).expect("it was made"), "V\n");
    tools.file("index.js", ECHO);
    let steps = r#"
        docker volume create assetInput && docker volume create assetOutput
        docker run --name copyContainer -v assetInput:/asset-input -v assetOutput:/asset-output --entrypoint sh lambci/lambda:nodejs12.x -c "mkdir -p /asset-input && chown -R 1000:1000 /asset-output; true"
        docker cp "$PWD/." copyContainer:/asset-input
        docker run --rm --volumes-from copyContainer -w /asset-input --entrypoint sh lambci/lambda:nodejs12.x -c 'cp index.js /asset-output/'
        docker cp copyContainer:/asset-output/. ../out
        docker rm copyContainer && docker volume rm assetInput assetOutput"#;
    tools.out(&format!("set -e; {steps}"));
    assert_eq!(fs::read_to_string(folder.join("index.js")).expect("it was copied"), ECHO);
}

#[test]
fn fakecloud() {
    let Some(tools) = Tools::new(PYTHON.0, PYTHON.1) else { return };
    tools.file("app.py", "def handler(event, context):\n    return {'got': event}\n");
    tools.out("docker info > /dev/null && docker network inspect bridge > /dev/null");
    let id = tools.out("docker create -p :8080 --label a=b -e X=1 public.ecr.aws/lambda/python:3.11 app.handler").trim().to_owned();
    tools.out(&format!(r#"docker cp "$PWD/." {id}:/var/task && docker start {id}"#));
    let called = tools.out(&format!(
        r#"curl -s "http://localhost:$(docker port {id} 8080 | sed 's/.*://')/2015-03-31/functions/function/invocations" -d '1'"#
    ));
    assert_eq!(called, r#"{"got": 1}"#);
    assert_eq!(tools.out("docker ps -q --filter label=a=b").trim(), &id[..12]);
    tools.out(&format!("docker rm -f {id}"));
}

#[test]
fn builders_for_python_and_terraform() {
    let Some(tools) = Tools::new(PYTHON.0, PYTHON.1) else { return };
    let line = r#"docker run --rm -w /var/task -v "$PWD":/var/task:z --entrypoint '' public.ecr.aws/lambda/python:3.11 /bin/sh -c 'echo built > made && pwd && id -u'"#;
    assert_eq!(tools.out(line), "/var/task\n0\n");
    assert_eq!(fs::read_to_string(tools.real.fixture.task().join("made")).expect("it was made"), "built\n");
    let line = r#"docker run --rm -v "$PWD":/var/task:z -u 0 --entrypoint python3 public.ecr.aws/lambda/python:3.11 -c 'print(6 * 7)'"#;
    assert_eq!(tools.out(line), "42\n");
}

/// A terminal that goes away takes the run with it, and leaves nothing.
#[test]
fn a_dead_terminal() {
    let Some(tools) = Tools::new(NODE.0, NODE.1) else { return };
    if !skip::has_program("script") {
        skip!("script is not installed (Debian package bsdutils)");
    }
    let line = "docker run -it --rm --name it --entrypoint sh lambci/lambda:nodejs12.x -c 'echo begun; exec sleep 1000'";
    let terminal = tools.sh(&format!("exec script -qec \"{line}\" /dev/null")).start();
    eventually(Duration::from_secs(20), "it runs", || tools.out("docker logs it 2>/dev/null || true").contains("begun"));
    terminal.signal(nix::sys::signal::Signal::SIGKILL);
    eventually(Duration::from_secs(10), "it is gone", || tools.out("docker ps -aq").is_empty());
}
