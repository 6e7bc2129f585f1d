//! `undocked build`: the guides' Dockerfiles as they stand, every instruction, the context, the cache of steps, and what is left of all that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::building::{Bench, packed};
use tests::docker::Docker;
use tests::image::{ImageLayer, Packing};
use tests::leftovers::everything_below;
use tests::tar::Tar;
use tests::wire::{Reply, Server};
use tests::{Fixture, skip};

#[test]
fn awss_guide_for_python_as_it_stands() {
    let Some(bench) = Bench::new() else { return };
    bench.file(
        "Dockerfile",
        "FROM public.ecr.aws/lambda/python:3.12\n\n# Copy requirements.txt\nCOPY requirements.txt ${LAMBDA_TASK_ROOT}\n\n\
         # Install the specified packages\nRUN pip install -r requirements.txt\n\n# Copy function code\nCOPY lambda_function.py ${LAMBDA_TASK_ROOT}\n\n\
         # Set the CMD to your handler (could also be done as a parameter override outside of the Dockerfile)\nCMD [ \"lambda_function.handler\" ]\n",
    );
    bench.file("requirements.txt", "boto3\n").file("lambda_function.py", "x = 1\n");
    let ran = bench.built(&[]);
    let said = ran.err();
    let lines = [
        "Step 1/5 : FROM public.ecr.aws/lambda/python:3.12",
        "Step 3/5 : RUN pip install -r requirements.txt",
        " ---> Running in ",
        "Successfully built ",
        "Successfully tagged made:latest",
    ];
    assert!(lines.iter().all(|line| said.contains(line)), "{said}");
    assert_eq!(bench.inside("cat noted lambda_function.py; pwd"), "pip install -r requirements.txt\nx = 1\n/var/task\n");
    assert_eq!(bench.config()["Cmd"], json!(["lambda_function.handler"]));
    let history = bench.documents().1["history"].clone();
    let told: Vec<&str> =
        history.as_array().expect("a list").iter().rev().take(4).filter_map(|entry| entry["created_by"].as_str()).collect();
    assert_eq!(
        told,
        [
            "CMD [\"lambda_function.handler\"]",
            "COPY lambda_function.py /var/task",
            "RUN /bin/sh -c pip install -r requirements.txt",
            "COPY requirements.txt /var/task",
        ]
    );
    bench.fixture.expect_nothing_left();
}

/// Each as the guide has it, with what has to be there afterwards.
#[test]
fn the_other_guides_as_they_stand() {
    let Some(bench) = Bench::new() else { return };
    let table = [
        (
            "FROM public.ecr.aws/lambda/nodejs:20\n\n# Copy function code\nCOPY index.js ${LAMBDA_TASK_ROOT}\n  \n# Set the CMD to your handler \
             (could also be done as a parameter override outside of the Dockerfile)\nCMD [ \"index.handler\" ]\n",
            "test -f /var/task/index.js",
            json!(["index.handler"]),
        ),
        (
            "FROM public.ecr.aws/lambda/nodejs:20 as builder\nWORKDIR /usr/app\nCOPY package.json index.ts  ./\nRUN npm install\nRUN npm run build\n    \n\n\
             FROM public.ecr.aws/lambda/nodejs:20\nWORKDIR ${LAMBDA_TASK_ROOT}\nCOPY --from=builder /usr/app/* ./\nCMD [\"index.handler\"]\n",
            "grep -q 'npm run build' /var/task/noted && test -f /var/task/index.ts && ! test -e /usr/app",
            json!(["index.handler"]),
        ),
        (
            "FROM public.ecr.aws/lambda/ruby:3.3\n\n# Copy Gemfile and Gemfile.lock\nCOPY Gemfile Gemfile.lock ${LAMBDA_TASK_ROOT}/\n\n# Install Bundler and \
             the specified gems\nRUN gem install bundler:2.4.20 && \\\n    bundle config set --local path 'vendor/bundle' && \\\n    bundle install\n\n\
             # Copy function code\nCOPY lambda_function.rb ${LAMBDA_TASK_ROOT}/    \n\nCMD [ \"lambda_function.LambdaFunction::Handler.process\" ]\n",
            "grep -q 'set --local path vendor/bundle' /var/task/noted && test -f /var/task/Gemfile.lock",
            json!(["lambda_function.LambdaFunction::Handler.process"]),
        ),
        (
            "FROM public.ecr.aws/lambda/java:21\n\n# Copy function code and runtime dependencies from Maven layout\nCOPY target/classes ${LAMBDA_TASK_ROOT}\n\
             COPY target/dependency/* ${LAMBDA_TASK_ROOT}/lib/\n\nCMD [ \"com.example.LambdaHandler::handleRequest\" ]\n",
            "test -f /var/task/com/example/L.class && test -f /var/task/lib/a.jar && test -f /var/task/lib/b.jar",
            json!(["com.example.LambdaHandler::handleRequest"]),
        ),
        (
            "FROM golang:1.20 as build\nWORKDIR /helloworld\n# Copy dependencies list\nCOPY go.mod go.sum ./\n# Build with optional lambda.norpc tag\n\
             COPY main.go .\nRUN go build -tags lambda.norpc -o main main.go\n# Copy artifacts to a clean image\nFROM public.ecr.aws/lambda/provided:al2023\n\
             COPY --from=build /helloworld/main ./main\nENTRYPOINT [ \"./main\" ]\n",
            "test -x /var/task/main && ! test -e /helloworld",
            json!(null),
        ),
        (
            "FROM lambci/lambda:build-python3.8\n\nENV AWS_DEFAULT_REGION us-east-1\n\nCOPY . .\n\nRUN zip -9yr lambda.zip .\n\n\
             CMD aws lambda update-function-code --function-name mylambda --zip-file fileb://lambda.zip\n",
            "test -f /var/task/go.mod && grep -q 'zip -9yr lambda.zip .' /var/task/noted",
            json!(["/bin/sh", "-c", "aws lambda update-function-code --function-name mylambda --zip-file fileb://lambda.zip"]),
        ),
        (
            "FROM lambci/lambda:nodejs12.x\n\nUSER root\n\nENV AWS_LAMBDA_FUNCTION_NAME=docker-build \\\n    AWS_LAMBDA_FUNCTION_VERSION=2 \\\n    \
             AWS_LAMBDA_FUNCTION_MEMORY_SIZE=384 \\\n    AWS_LAMBDA_FUNCTION_TIMEOUT=60\n\nCOPY --chown=sbx_user1051:497 index.js .\n\nUSER sbx_user1051\n",
            "test -f /var/task/index.js",
            json!(["inherited"]),
        ),
    ];
    for name in ["index.js", "index.ts", "package.json", "Gemfile", "Gemfile.lock", "lambda_function.rb", "go.mod", "go.sum", "main.go"] {
        bench.file(name, name);
    }
    bench.file("target/classes/com/example/L.class", "x").file("target/dependency/a.jar", "x").file("target/dependency/b.jar", "x");
    for (text, check, cmd) in table {
        bench.file("Dockerfile", text).built(&[]);
        assert_eq!(bench.inside(&format!("{check} && echo yes")), "yes\n", "{text}");
        assert_eq!(bench.config()["Cmd"], cmd, "{text}");
    }
    assert!(bench.config()["Env"].to_string().contains("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=384"));
    assert!(bench.last_layer().lines().any(|line| line.starts_with("-rw-r--r-- 496/497 ") && line.ends_with("/index.js")));
    bench.fixture.expect_nothing_left();
}

/// Python upon an image of Python's own, with the runtime client.
const PYTHON: &str = "# Define custom function directory\nARG FUNCTION_DIR=\"/function\"\n\nFROM python:3.12 AS build-image\n\n# Include global arg in this stage of \
             the build\nARG FUNCTION_DIR\n\n# Copy function code\nRUN mkdir -p ${FUNCTION_DIR}\nCOPY . ${FUNCTION_DIR}\n\n# Install the function's \
             dependencies\nRUN pip install \\\n    --target ${FUNCTION_DIR} \\\n        awslambdaric\n\n# Use a slim version of the base Python image to \
             reduce the final image size\nFROM python:3.12-slim\n\n# Include global arg in this stage of the build\nARG FUNCTION_DIR\n# Set working \
             directory to function root directory\nWORKDIR ${FUNCTION_DIR}\n\n# Copy in the built dependencies\nCOPY --from=build-image ${FUNCTION_DIR} \
             ${FUNCTION_DIR}\n\n# Set runtime interface client as default command for the container runtime\nENTRYPOINT [ \"/usr/local/bin/python\", \
             \"-m\", \"awslambdaric\" ]\n# Pass the name of the function handler as an argument to the runtime\nCMD [ \"lambda_function.handler\" ]\n";

/// Node.js in the same way.
const NODE: &str = "# Define custom function directory\nARG FUNCTION_DIR=\"/function\"\n\nFROM node:20-buster as build-image\n\n# Include global arg in this stage \
             of the build\nARG FUNCTION_DIR\n\n# Install build dependencies\nRUN apt-get update && \\\n    apt-get install -y \\\n    g++ \\\n    make \
             \\\n    cmake \\\n    unzip \\\n    libcurl4-openssl-dev\n\n# Copy function code\nRUN mkdir -p ${FUNCTION_DIR}\nCOPY . ${FUNCTION_DIR}\n\n\
             WORKDIR ${FUNCTION_DIR}\n\n# Install Node.js dependencies\nRUN npm install\n\n# Install the runtime interface client\nRUN npm install \
             aws-lambda-ric\n\n# Grab a fresh slim copy of the image to reduce the final size\nFROM node:20-buster-slim\n\n# Required for Node runtimes \
             which use npm@8.6.0+ because\n# by default npm writes logs under /home/.npm and Lambda fs is read-only\nENV NPM_CONFIG_CACHE=/tmp/.npm\n\n\
             # Include global arg in this stage of the build\nARG FUNCTION_DIR\n\n# Set working directory to function root directory\nWORKDIR \
             ${FUNCTION_DIR}\n\n# Copy in the built dependencies\nCOPY --from=build-image ${FUNCTION_DIR} ${FUNCTION_DIR}\n\n# Set runtime interface \
             client as default command for the container runtime\nENTRYPOINT [\"/usr/local/bin/npx\", \"aws-lambda-ric\"]\n# Pass the name of the \
             function handler as an argument to the runtime\nCMD [\"index.handler\"]\n";

/// Ruby in the same way.
const RUBY: &str = "FROM ruby:2.7\n\n# Install the runtime interface client for Ruby\nRUN gem install aws_lambda_ric\n\n# Add the runtime interface client to the \
             PATH\nENV PATH=\"/usr/local/bundle/bin:${PATH}\"\n\n# Create a directory for the Lambda function\nENV LAMBDA_TASK_ROOT=/var/task\nRUN mkdir \
             -p ${LAMBDA_TASK_ROOT}\nWORKDIR ${LAMBDA_TASK_ROOT}\n\n# Copy Gemfile and Gemfile.lock\nCOPY Gemfile Gemfile.lock ${LAMBDA_TASK_ROOT}/\n\n\
             # Install Bundler and the specified gems\nRUN gem install bundler:2.4.20 && \\\n    bundle config set --local path 'vendor/bundle' && \\\n    \
             bundle install\n\n# Copy function code\nCOPY lambda_function.rb ${LAMBDA_TASK_ROOT}/    \n\n# Set runtime interface client as default command \
             for the container runtime\nENTRYPOINT [ \"aws_lambda_ric\" ]\n\n# Set the CMD to your handler (could also be done as a parameter override \
             outside of the Dockerfile)\nCMD [ \"lambda_function.LambdaFunction::Handler.process\" ]\n";

/// Java, compiled in a stage.
const JAVA: &str = "FROM public.ecr.aws/amazoncorretto/amazoncorretto:21 as base\n\n# Configure the build environment\nFROM base as build\nRUN yum install -y \
             maven\nWORKDIR /src\n\n# Cache and copy dependencies\nADD pom.xml .\nRUN mvn dependency:go-offline dependency:copy-dependencies\n\n# Compile \
             the function\nADD . .\nRUN mvn package \n\n# Copy the function artifact and dependencies onto a clean base\nFROM base\nWORKDIR /function\n\n\
             COPY --from=build /src/target/dependency/*.jar ./\nCOPY --from=build /src/target/*.jar ./\n\n# Set runtime interface client as default command \
             for the container runtime\nENTRYPOINT [ \"/usr/bin/java\", \"-cp\", \"./*\", \
             \"com.amazonaws.services.lambda.runtime.api.client.AWSLambda\" ]\n# Pass the name of the function handler as an argument to the runtime\nCMD \
             [ \"example.App::sayHello\" ]\n";

/// Go upon Alpine.
const GO: &str = "FROM golang:1.20.2-alpine3.16 as build\nWORKDIR /helloworld\n# Build\nCOPY main.go .\nRUN go build -o main main.go\n# Copy artifacts to a clean \
             image\nFROM alpine:3.16\nCOPY --from=build /helloworld/main /main\nENTRYPOINT [ \"/main\" ]\n";

/// .NET, published before, and with no entrypoint, as nobody's guide has it.
const DOTNET: &str = "FROM public.ecr.aws/lambda/dotnet:8\n\nWORKDIR /var/task\n\nCOPY \"bin/Release/lambda-publish\"  .\nENTRYPOINT []\n";

/// Upon images that are not AWS's: with the runtime client, global arguments, several stages.
#[test]
fn the_guides_for_other_images_as_they_stand() {
    let Some(bench) = Bench::new() else { return };
    let table = [
        (
            PYTHON,
            "test $PWD = /function && test -f lambda_function.py && test -d target/classes",
            json!(["/usr/local/bin/python", "-m", "awslambdaric"]),
        ),
        (
            NODE,
            "test $PWD = /function && test \"$(tail -n 2 noted)\" = \"$(printf 'npm install\\nnpm install aws-lambda-ric')\" && test $NPM_CONFIG_CACHE = /tmp/.npm",
            json!(["/usr/local/bin/npx", "aws-lambda-ric"]),
        ),
        (
            RUBY,
            "test ${PATH%%:*} = /usr/local/bundle/bin && grep -q 'bundler:2.4.20' noted && test -f lambda_function.rb",
            json!(["aws_lambda_ric"]),
        ),
        (
            JAVA,
            "test \"$(echo *)\" = 'a.jar b.jar d.jar f.jar'",
            json!(["/usr/bin/java", "-cp", "./*", "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"]),
        ),
        (GO, "test -x /main", json!(["/main"])),
        (DOTNET, "test -f /var/task/F.dll", json!(null)),
    ];
    for name in ["index.js", "package.json", "Gemfile", "Gemfile.lock", "lambda_function.rb", "lambda_function.py", "main.go", "pom.xml"] {
        bench.file(name, name);
    }
    bench.file("target/classes/L.class", "x").file("target/dependency/a.jar", "x").file("target/dependency/b.jar", "x");
    bench.file("bin/Release/lambda-publish/F.dll", "x");
    let platform = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    for (text, check, entrypoint) in table {
        bench.file("Dockerfile", text).built(&["--platform", &platform, "--provenance=false"]);
        assert_eq!(bench.inside(&format!("{check} && echo yes")), "yes\n", "{text}");
        assert_eq!(bench.config()["Entrypoint"], entrypoint, "{text}");
    }
    bench.fixture.expect_nothing_left();
}

#[test]
fn every_instruction_finds_its_way_into_the_config() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "a").file(
        "Dockerfile",
        "ARG TAG=latest\nFROM base:$TAG\nARG X=1\nARG TAG\nENV A=$X B=${NONE:-b$TAG} C='$X' LD_LIBRARY_PATH=\nLABEL l=$A \"m n\"=\"o p\"\nEXPOSE 80 81/udp\n\
         VOLUME /v [\"w\"]\nWORKDIR /w\nWORKDIR sub\nUSER 5:6\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s CMD x\nSHELL [\"/bin/bash\", \"-c\"]\n\
         MAINTAINER me\nENTRYPOINT run it\nONBUILD RUN x\n",
    );
    bench.built(&["--build-arg", "X=2", "--label", "n=q", "--build-arg", "UNUSED=1"]);
    let config = bench.config();
    let env: Vec<&str> = config["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(["A=2", "B=blatest", "C=$X", "LD_LIBRARY_PATH="].iter().all(|wanted| env.contains(wanted)), "{env:?}");
    let expected = json!({
        "Entrypoint": ["/bin/bash", "-c", "run it"], "ExposedPorts": {"80/tcp": {}, "81/udp": {}}, "User": "5:6", "WorkingDir": "/w/sub",
        "Labels": {"l": "2", "m n": "o p", "n": "q"}, "StopSignal": "SIGINT", "Shell": ["/bin/bash", "-c"], "OnBuild": ["RUN x"],
        "Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 5_000_000_000_u64}, "Volumes": {"/v": {}, "[w]": {}},
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(config[name], *value, "{name}");
    }
    assert_eq!(config["Cmd"], json!(null), "an inherited command goes with its entrypoint");
    assert_eq!(bench.documents().1["author"], "me");
    // Of an image that leaves instructions to who builds upon it.
    bench.file("Dockerfile", "FROM triggers\nENV U=$T\n").built(&[]).expect_err("# Executing 2 build triggers");
    assert!(bench.config()["Env"].to_string().contains("U=1"));
    assert!(bench.last_layer().contains(" a\n"));
    bench.file("Dockerfile", "FROM base\nARG A\nRUN echo $A-$HTTP_PROXY > /said\n").built(&[
        "--build-arg",
        "A=x",
        "--build-arg",
        "HTTP_PROXY=p",
    ]);
    assert_eq!(bench.inside("cat /said"), "x-p\n");
    assert!(!bench.documents().1.to_string().contains("HTTP_PROXY=p"), "it says nothing of proxies");
}

#[test]
fn what_commands_change_is_a_layer() {
    let Some(bench) = Bench::new() else { return };
    let text = "FROM base\nRUN mkdir -p /a/b && echo 1 > /a/b/one && ln /a/b/one /a/b/two && ln -s one /a/b/link && chmod 4755 /a/b/one\n\
         RUN rm -r /a/b /etc/passwd && mkdir /a/b && touch /a/b/new && rm -r /usr/lib/locale /opt 2>/dev/null; true\n\
         RUN [\"/bin/sh\", \"-c\", \"echo exec $0 > /exec\"]\nRUN <<EOF\ncd /\necho here > here\nEOF\nRUN cat > /there <<E1 - <<E2\none\nE1\ntwo\nE2\n\
         RUN <<EOF\n#!/bin/bash\necho $BASH > /script\nEOF\nWORKDIR /new/dir\nRUN pwd > where; echo 'said on stdout'; id -u > /id\nRUN true\n";
    bench.file("Dockerfile", text);
    let ran = bench.built(&[]);
    ran.expect_err("said on stdout");
    assert_eq!(
        bench.inside("cd /; ls a/b; cat exec here script id new/dir/where; test -e etc/passwd && echo kept; test -e opt && echo kept"),
        // The places that a sandbox mounts something at are there always.
        "new\nexec /bin/sh\nhere\n/bin/bash\n0\n/new/dir\nkept\nkept\n"
    );
    let (manifest, config) = bench.documents();
    let empty = config["history"].as_array().expect("a list").last().expect("one")["empty_layer"].clone();
    assert_eq!(empty, json!(true), "a command that changes nothing makes no layer");
    assert_eq!(manifest["layers"].as_array().expect("a list").len(), config["rootfs"]["diff_ids"].as_array().expect("a list").len());
    bench.fixture.expect_nothing_left();
}

/// Docker unpacks each layer by itself: a folder that one says nothing of is root's there, with mode 755, whatever layers below it said.
#[test]
fn folders_on_the_way_to_a_change_keep_mode_and_owner() {
    let Some(bench) = Bench::new() else { return };
    let text = "FROM base AS first\nCOPY --chown=7:8 d /home/app\nRUN mkdir -m 1777 /open && mkdir -m 700 /closed && touch /open/gone\n\
        FROM first\nCOPY a /open/a\nRUN rm /open/gone && echo 1 > /closed/one && echo 2 > /home/app/two\n";
    bench.file("a", "a").file("d/b", "b").file("Dockerfile", text).built(&[]);
    let listed = bench.last_layer();
    for (mode, owner, name) in [
        ("drwx------", "0/0", "closed/"),
        ("drwxrwxrwt", "0/0", "open/"),
        ("----------", "0/0", "open/.wh.gone"),
        ("drwxr-xr-x", "7/8", "home/app/"),
    ] {
        let is_it = |line: &&str| line.starts_with(&format!("{mode} {owner} ")) && line.ends_with(&format!(" {name}"));
        assert!(listed.lines().any(|line| is_it(&line)), "{name}:\n{listed}");
    }
    let modes = bench.inside("ls -ld /open /closed");
    assert!(modes.contains("drwxrwxrwt") && modes.contains("drwx------"), "{modes}");
}

/// Docker makes a folder of each volume that an image names, whether its layers have one or not.
#[test]
fn an_images_volumes_are_folders_in_its_runs() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "a").file("Dockerfile", "FROM base\nCOPY a /a\nVOLUME /data/of/it /var\n").built(&[]);
    let line = ["run", "--rm", "--entrypoint", "/bin/sh", "made", "-c", "cd /data/of/it && echo x > made && ls"];
    assert_eq!(bench.fixture.docker(&line).finish().expect_code(0).out(), "made\n");
}

/// What every root has for sandboxes to mount something at is nothing of the image's.
#[test]
fn mount_points_are_not_copied_from_an_image() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "a").file("Dockerfile", "FROM scratch\nCOPY a /opt/extensions/a\n").built(&[]);
    bench.fixture.undocked(&["tag", "made", "layer"]).finish().expect_code(0);
    bench.file("Dockerfile", "FROM base\nCOPY --from=layer / /\n").built(&[]);
    let listed = bench.last_layer();
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, ["opt/", "opt/extensions/", "opt/extensions/a"]);
    // So a file of that name is one, and no folder in the way.
    bench.file("Dockerfile", "FROM layer\nCOPY a /var/task\n").built(&[]);
    assert!(bench.last_layer().lines().any(|line| line.starts_with('-') && line.ends_with(" var/task")), "{}", bench.last_layer());
}

#[test]
fn a_command_that_fails_fails_the_build() {
    let Some(bench) = Bench::new() else { return };
    bench.file("Dockerfile", "FROM base\nRUN echo before\nRUN echo out; echo err >&2; exit 3\nRUN echo after\n");
    let before = everything_below(&bench.fixture.cache().join("v1/images")).len();
    let ran = bench.build(&[]).finish().expect_code(1);
    assert_eq!(ran.out(), "");
    assert!(
        ran.err().ends_with(
            "out\nerr\nundocked: Dockerfile:3: The command '/bin/sh -c echo out; echo err >&2; exit 3' returned a non-zero code: 3\n"
        ),
        "{}",
        ran.err()
    );
    let quiet = bench.build(&["-q"]).finish().expect_code(1);
    assert!(quiet.err().starts_with("out\nerr\nundocked: Dockerfile:3: "), "{}", quiet.err());
    assert_eq!(everything_below(&bench.fixture.cache().join("v1/images")).len(), before);
    bench.fixture.expect_nothing_left();
}

/// File, line and reason of everything that is refused or wrong.
#[test]
fn refusals_name_file_and_line() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "a").file("d/b", "b").file(".dockerignore", "hidden\n").file("hidden", "x");
    let table = [
        ("ADD https://example.com/x.git#main /x", "`ADD https://example.com/x.git#main`: repositories are not supported"),
        ("ADD https://example.com /x/", "`ADD https://example.com`: the address names no file"),
        ("ADD --checksum=sha256:12 https://example.com/a /", "`--checksum=sha256:12` is not supported"),
        ("ADD --checksum=sha256:12 a /x", "`ADD --checksum` is for addresses of HTTP and HTTPS alone"),
        ("COPY --checksum=sha256:12 a /x", "`COPY --checksum` is not supported"),
        ("COPY --from=base --parents a b", "`COPY --parents` is not supported"),
        ("RUN --mount=type=secret,id=x,required true", "the secret `x` was not given"),
        ("RUN --mount=type=cache,from=base,target=/x true", "`RUN --mount=type=cache` with `from=base` is not supported"),
        ("RUN --mount=source=none,target=/x true", "`none` is not there"),
        ("RUN --mount=type=ssh true", "`RUN --mount=type=ssh` is not supported"),
        ("RUN --security=insecure true", "`RUN --security` is not supported"),
        ("COPY none /", "`none` is not there"),
        ("COPY none* /", "`none*` is not there"),
        ("COPY hidden /", "`hidden` is not there"),
        ("COPY ../../../../etc/passwd /", "`../../../../etc/passwd` is not there"),
        ("COPY a d/b /x", "`/x` has to end with a `/`: several things are copied there"),
        ("COPY a /etc/passwd/", "`/etc/passwd` is no folder, and something is to be copied into it"),
        ("COPY --chown=nobody9 a /", "there is no user `nobody9` in the image"),
        ("COPY --chmod=u+x a /", "`--chmod=u+x` is not supported"),
        ("COPY [a /", "a `[` without its `]`, or a `\\` at the end"),
        ("ENV A=${B%x}", "`${B%...}` is not supported"),
        ("ENV A=\"x", "a double quote without its end"),
        ("EXPOSE x", "`EXPOSE x`: `x` is no port"),
        ("INSTALL x", "unknown instruction 'INSTALL'"),
        ("HEALTHCHECK --interval=5 CMD x", "`--interval=5` is not a duration"),
        ("FROM $NONE", "`$NONE` is nothing: no image is named"),
        ("FROM scratch\nRUN x", "`RUN` in a stage from `scratch` is not supported"),
    ];
    for (text, wanted) in table {
        bench.file("sub/My.Dockerfile", format!("FROM base\n\n# said\n{text}\n"));
        let file = bench.context().join("sub/My.Dockerfile").display().to_string();
        let ran = bench.build(&["-q", "-f", &file]).finish().expect_code(1);
        let line = 4 + text.matches('\n').count();
        assert!(ran.err().contains(&format!("undocked: {file}:{line}: ")) && ran.err().contains(wanted), "{text}: {}", ran.err());
    }
    for (options, code, wanted) in [
        (&["--target", "x"][..], 1, "Dockerfile: `--target x` is no stage"),
        (&["--secret", "id=x,src=/nowhere"], 125, "cannot read the secret `x` from `/nowhere`"),
        (&["--secret", "id=x,env=NOT_SET"], 2, "the variable `NOT_SET` is not set"),
        (&["--secret", "src"], 2, "`src` is not known"),
        (&["-f", "/nowhere"], 125, "cannot read the Dockerfile `/nowhere`"),
        (&["-t", "UPPER"], 2, "`UPPER`"),
        (&["--network", "x"], 2, "`--network x` is not known"),
    ] {
        bench.file("Dockerfile", "FROM base\n");
        bench.build(options).finish().expect_code(code).expect_err(wanted);
    }
    bench.fixture.expect_nothing_left();
}

/// What the Dockerfile names and the image lacks is its fault, and so is a Dockerfile that is not there under docker's name.
#[test]
fn what_a_dockerfile_names_and_is_not_there() {
    let Some(bench) = Bench::new() else { return };
    for (text, wanted) in
        [("RUN [\"nope\"]", "nope"), ("RUN [\"/etc/passwd\"]", "/etc/passwd"), ("USER no-such\nRUN true", "has no user `no-such`")]
    {
        bench.file("Dockerfile", format!("FROM base\n{text}\n"));
        bench.build(&[]).finish().expect_code(1).expect_err(wanted);
    }
    fs::remove_file(bench.context().join("Dockerfile")).expect("ours");
    let missing = bench.context().join("Dockerfile").display().to_string();
    let said = format!("undocked: cannot read the Dockerfile `{missing}`: No such file or directory\n");
    bench.build(&[]).finish().expect_code(125).expect_err(&said);
    let context = bench.context().display().to_string();
    let under_dockers_name = bench.fixture.docker(&["build", &context]).finish().expect_code(1);
    let said =
        format!("unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {missing}: no such file or directory\n");
    assert_eq!(under_dockers_name.err(), said);
    bench.fixture.expect_nothing_left();
}

#[test]
fn copies_go_where_docker_has_them_go() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "a").file("d/b", "b").file("d/e/c", "c").file("x1.txt", "1").file("x2.txt", "2").file("Dockerfile", "");
    std::os::unix::fs::symlink("a", bench.context().join("link")).expect("made");
    std::os::unix::fs::symlink("/etc/hostname", bench.context().join("out")).expect("made");
    std::os::unix::fs::symlink("../../../..", bench.context().join("d/up")).expect("made");
    let table = [
        ("COPY a /new/dir/", "new/ new/dir/ new/dir/a"),
        ("COPY a /new/file", "new/ new/file"),
        ("COPY a /opt", "opt/a"),
        ("COPY d /opt", "opt/b opt/e/ opt/e/c opt/up"),
        ("COPY d /fresh", "fresh/ fresh/b fresh/e/ fresh/e/c fresh/up"),
        ("COPY d/ a /fresh/", "fresh/ fresh/a fresh/b fresh/e/ fresh/e/c fresh/up"),
        ("COPY x?.txt /opt/", "opt/x1.txt opt/x2.txt"),
        ("COPY */b /opt/", "opt/b"),
        ("COPY a .", "var/task/a"),
        ("COPY a sub/", "var/task/sub/ var/task/sub/a"),
        ("COPY link /opt/", "opt/link"),
        ("COPY /d/../a /opt/", "opt/a"),
        ("COPY ../../a /opt/", "opt/a"),
        ("COPY d/up/a /opt/", "opt/a"),
        ("COPY a /bin/mine", "usr/bin/mine"),
        ("COPY [\"a\", \"/with blank/\"]", "with blank/ with blank/a"),
        ("COPY <<one <<two /opt/\n1\none\n2\ntwo", "opt/one opt/two"),
    ];
    for (text, wanted) in table {
        bench.file("Dockerfile", format!("FROM base\n{text}\n")).built(&[]);
        let listed = bench.last_layer();
        let names: Vec<&str> = listed.lines().filter_map(|line| line.split("1980-01-01 00:00 ").nth(1)).collect();
        let names: Vec<&str> = names.iter().map(|name| name.split(" -> ").next().unwrap_or(name)).collect();
        // Images with `bin` as a folder of its own have it there.
        let wanted = if bench.inside("test -L /bin && echo yes").is_empty() { wanted.replace("usr/bin", "bin") } else { wanted.to_owned() };
        // Folders of the base that lead to what is copied stand there, too.
        let is_wanted = |name: &str| format!(" {wanted} ").contains(&format!(" {name} "));
        let leads_there = |name: &str| name.ends_with('/') && wanted.split(' ').any(|wanted| wanted.starts_with(name));
        let names: Vec<&str> = names.into_iter().filter(|name| is_wanted(name) || !leads_there(name)).collect();
        assert_eq!(names.join(" "), wanted, "{text}");
    }
    // What leads out of the context leads within it.
    bench
        .file("Dockerfile", "FROM base\nCOPY out /opt/\n")
        .build(&[])
        .finish()
        .expect_code(1)
        .expect_err("Dockerfile:2: `out` is not there");
    bench.file("Dockerfile", "FROM base\nCOPY --chown=7:8 --chmod=750 d /opt\n").built(&[]);
    assert!(
        bench
            .last_layer()
            .lines()
            .filter(|line| !line.starts_with('l') && !line.ends_with(" opt/"))
            .all(|line| line[1..].starts_with("rwxr-x---") && line.contains("7/8"))
    );
}

#[test]
fn what_dockerignore_names_is_not_there() {
    let Some(bench) = Bench::new() else { return };
    for name in ["a.md", "README.md", "src/x.js", "src/node_modules/y", "node_modules/z", "secret/k", "secret/public"] {
        bench.file(name, "x");
    }
    bench.file(".dockerignore", "# said\n*.md\n!README.md\n**/node_modules\nsecret\n!secret/public\nDockerfile*\n.dockerignore\n");
    bench.file("Dockerfile", "FROM base\nCOPY . /all\n").built(&[]);
    assert_eq!(bench.inside("cd /all; find . -type f | sort"), "./README.md\n./secret/public\n./src/x.js\n");
    bench.file("Other", "FROM base\nCOPY . /all\n").file("Other.dockerignore", "*\n!a.md\n");
    let other = bench.context().join("Other").display().to_string();
    bench.built(&["-f", &other]);
    assert_eq!(bench.inside("cd /all; find . -type f | sort"), "./a.md\n");
    bench
        .file(".dockerignore", "a\n[\n")
        .build(&[])
        .finish()
        .expect_code(125)
        .expect_err("cannot use `.dockerignore`: line 2: `[` is no pattern");
}

#[test]
fn the_same_input_is_the_same_image() {
    let Some(bench) = Bench::new() else { return };
    let Some(other) = Bench::new() else { return };
    let text = "FROM base AS one\nRUN mkdir /m && for f in c a b; do echo $f > /m/$f; done && chmod 700 /m/a\nWORKDIR /made/here\nCOPY d /d\n\
                FROM base\nCOPY --from=one /m /d /all/\nENV A=1\nCMD x\n";
    for (bench, umask) in [(&bench, 0o700), (&other, 0o755)] {
        bench.file("d/2", "two").file("d/1", "one").file("d/e/3", "three").file("Dockerfile", text);
        // The context's own mode, and times, are nothing.
        fs::set_permissions(bench.context(), fs::Permissions::from_mode(umask)).expect("set");
        for folder in ["d", "d/e"] {
            fs::set_permissions(bench.context().join(folder), fs::Permissions::from_mode(0o755)).expect("set");
        }
        bench.built(&[]);
    }
    assert_eq!(bench.digest(), other.digest());
    let before = bench.digest();
    bench.built(&["--no-cache"]).expect_err("---> Running in");
    assert_eq!(bench.digest(), before, "made anew");
    bench.build(&[]).env("SOURCE_DATE_EPOCH", "1600000000").finish().expect_code(0);
    let (_, config) = bench.documents();
    assert_eq!(config["created"], "2020-09-13T12:26:40Z");
    assert!(bench.last_layer().contains("2020-09-13 12:26"), "{}", bench.last_layer());
    // Saved by one and loaded by another it is that image.
    let file = bench.fixture.path().join("made.tar").display().to_string();
    bench.built(&[]);
    bench.fixture.undocked(&["save", "-q", "-o", &file, "made"]).finish().expect_code(0);
    let fresh = Fixture::without_sandbox();
    fresh.undocked(&["load", "-q", "-i", &file]).finish().expect_code(0);
    assert!(fresh.undocked(&["images", "--json"]).finish().out().contains(&before));
}

#[test]
fn steps_are_done_again_only_where_something_changed() {
    let Some(bench) = Bench::new() else { return };
    let text = |end: &str| {
        format!(
            "FROM base\nARG V=1\nCOPY one /one\nRUN cat /one > /made; echo run >> /made\nENV X={end}\nCOPY two /two\nRUN cp /two /after\n"
        )
    };
    let hits = |bench: &Bench, options: &[&str]| bench.built(options).err().matches("---> Using cache").count();
    bench.file("Dockerfile", text("1")).file("one", "1").file("two", "2");
    assert_eq!(hits(&bench, &[]), 0);
    assert_eq!(hits(&bench, &[]), 4);
    let first = bench.digest();
    let old = fs::File::options().write(true).open(bench.context().join("one")).expect("there");
    old.set_modified(std::time::UNIX_EPOCH).expect("set");
    assert_eq!(hits(&bench, &[]), 4, "times are nothing");
    bench.file("unused", "x");
    assert_eq!(hits(&bench, &[]), 4, "what is not copied is nothing");
    bench.file("two", "other");
    assert_eq!(hits(&bench, &[]), 2);
    assert_eq!(bench.inside("cat /after /made"), "other1run\n", "a command sees what steps before it did, from the cache or not");
    fs::set_permissions(bench.context().join("one"), fs::Permissions::from_mode(0o755)).expect("set");
    assert_eq!(hits(&bench, &[]), 0, "modes are something");
    bench.file("one", "1").file("two", "2").file("Dockerfile", text("2"));
    assert_eq!(hits(&bench, &[]), 2, "a variable is something to what comes after");
    assert_eq!(hits(&bench, &["--build-arg", "V=2"]), 1, "a build argument is something to commands");
    assert_eq!(hits(&bench, &["--no-cache"]), 0);
    bench.file("Dockerfile", text("1"));
    assert_eq!(hits(&bench, &[]), 4);
    assert_eq!(bench.digest(), first);
    bench.fixture.undocked(&["rm", "made"]).finish().expect_code(0);
    assert_eq!(hits(&bench, &[]), 4, "results outlive their images");
    bench.fixture.undocked(&["rm", "made"]).finish().expect_code(0);
    // Those that were called so before need their layers, too.
    let nameless = bench.fixture.undocked(&["images", "-q", "--filter", "dangling=true"]).finish().expect_code(0).out();
    let removed = bench.fixture.undocked(&["rm"]).args(nameless.lines()).finish().expect_code(0);
    let pruned = bench.fixture.undocked(&["prune"]).finish().expect_code(0);
    assert_eq!(hits(&bench, &[]), 0, "until they are pruned: {nameless}{}{}{}", removed.out(), pruned.out(), pruned.err());
    assert_eq!(bench.digest(), first);
    bench.fixture.expect_nothing_left();
}

#[test]
fn mounts_networks_and_only_what_is_needed() {
    let Some(bench) = Bench::new() else { return };
    let text = "FROM base AS unused\nRUN exit 1\nFROM base AS wanted\n\
                RUN --mount=type=cache,target=/kept,id=k echo $RANDOM >> /kept/n; wc -l < /kept/n > /lines\n\
                RUN --mount=type=bind,source=d,target=/bound cat /bound/f > /copied; ! touch /bound/g 2>/dev/null\n\
                RUN --mount=type=tmpfs,target=/gone touch /gone/x\nRUN --network=none ls /sys/class/net > /nets 2>/dev/null; true\nFROM unused\n";
    bench.file("Dockerfile", text).file("d/f", "bound");
    bench.built(&["--target", "wanted"]);
    assert_eq!(bench.inside("cat /lines /copied; ls -d /gone /bound /kept 2>&1 | grep -c 'cannot access'"), "1\nbound3\n");
    bench.built(&["--target", "wanted", "--no-cache"]);
    assert_eq!(bench.inside("cat /lines"), "2\n");
    bench.built(&["--target", "1"]).expect_err("---> Using cache");
    bench.build(&[]).finish().expect_code(1).expect_err("Dockerfile:2: The command '/bin/sh -c exit 1' returned a non-zero code: 1");
    let id = bench.fixture.path().join("id");
    let quiet = bench.build(&["-q", "--target", "wanted", "--iidfile", &id.display().to_string()]).finish().expect_code(0);
    assert_eq!((quiet.err(), quiet.out()), (String::new(), format!("{}\n", fs::read_to_string(id).expect("written"))));
    assert_eq!(quiet.out().trim_end(), format!("{}", bench.documents().0["config"]["digest"].as_str().expect("a text")));
    bench.fixture.expect_nothing_left();
}

#[test]
fn a_build_makes_room_and_keeps_what_was_built() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "built").file("Dockerfile", "FROM base\nCOPY a /a\n");
    let ran = bench.build(&[]).env("UNDOCKED_CACHE_MAX_SIZE", "1m").finish().expect_code(0);
    assert!(ran.err().contains("was removed from the cache, which may take"), "{}", ran.err());
    let digests = bench.fixture.undocked(&["images", "-q"]).finish().expect_code(0).out();
    assert_eq!((digests.lines().count(), digests.trim()), (1, bench.digest().as_str()));
    assert_eq!(bench.inside("cat /a"), "built");
}

#[test]
fn a_build_that_is_ended_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "a").file("Dockerfile", "FROM base\nCOPY a /a\nRUN echo it runs; sleep 1000\n");
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let running = bench.build(&[]).start();
        running.wait_for_stderr("\nit runs");
        running.signal(signal);
        running.finish().expect_code(code).expect_err("undocked: interrupted");
        assert_eq!(roots(&bench.fixture.cache()), 0);
        bench.fixture.expect_nothing_left();
    }
    let running = bench.build(&[]).start();
    running.wait_for_stderr("\nit runs");
    running.signal(Signal::SIGKILL);
    running.finish().expect_code(137);
    // What it had written goes with the next one.
    bench.file("Dockerfile", "FROM base\nCOPY a /a\nRUN true\n").built(&[]).expect_err("---> Using cache");
    assert_eq!(roots(&bench.fixture.cache()), 0);
}

/// Folders of runs that are there.
fn roots(cache: &Path) -> usize {
    let runs = fs::read_dir(cache).expect("there").flatten().find(|entry| entry.file_name() == "runs");
    runs.map_or(0, |runs| fs::read_dir(runs.path()).expect("there").count())
}

/// What the real docker builds of a Dockerfile and what we do are the same files, and docker runs ours.
#[test]
fn docker_builds_the_same_and_runs_ours() {
    if !skip::is_root() {
        skip::skip(skip::Lack::OtherUser, "dockerd needs root");
        return;
    }
    let Some(bench) = Bench::new() else { return };
    let docker = match Docker::start(bench.fixture.path()) {
        Ok(docker) => docker,
        Err(reason) => return skip::skip(skip::Lack::Large, &reason),
    };
    let tar = Tar::new().folder("in").file("in/a", "of the archive").symlink("in/l", "a").finish();
    bench.file("a", "a").file("d/b", "b").file("d/e/c", "c").file("x1.txt", "1").file("x2.txt", "2").file("x.tar", &tar);
    bench
        .file("x.tgz", ImageLayer::of_bytes(&tar, Packing::Gzip).blob)
        .file("x.gz", ImageLayer::of_bytes(b"no archive", Packing::Gzip).blob);
    bench
        .file("m/a.md", "x")
        .file("m/README.md", "x")
        .file("m/k/node_modules/y", "x")
        .file("node_modules/z", "x")
        .file("s/keep", "x")
        .file("s/no", "x");
    for (program, name) in [("xz", "x.txz"), ("bzip2", "x.tbz")] {
        bench.file(name, packed(program, &[], &tar));
    }
    let files = Server::start(|_| Reply::new(200, "downloaded"));
    std::os::unix::fs::symlink("a", bench.context().join("link")).expect("made");
    bench.file(".dockerignore", "# said\n**/*.md\n!m/README.md\n**/node_modules\ns\n!s/keep\n*.none\n");
    let downloads = format!("ADD http://{0}/of/a.txt /c14/\nADD http://{0}/of/a.txt /c15\n", files.address());
    let text = "ARG V=1\nFROM base AS first\nARG V\nENV E=${V:-2} F='a b'\nCOPY a /c0/dir/\nCOPY a /c0/file\nCOPY d /c1\nCOPY d/ a /c2/\nCOPY x?.txt /c3/\n\
                COPY */b /c4/\nCOPY link /c5/\nCOPY . /c6\nADD x.tar /c7/\nADD x.tgz /c8/\nADD x.gz /c9/\nADD x.txz /c16/\nADD x.tbz /c17/\nDOWNLOADS\nCOPY --chown=7:8 d /c10\nWORKDIR /c11/w\n\
                RUN echo $E > run && rm /c2/a && mkdir -p /c12/x && ln run /c12/hard && ln -s /c1 /c12/soft && chmod 711 /c12\nENTRYPOINT [\"/bin/sh\", \"-c\"]\n\
                FROM first\nCOPY --from=first /c1 /c7/in/a /c13/\nLABEL l=m\n";
    bench.file("Dockerfile", text.replace("DOWNLOADS\n", &downloads)).built(&[]);
    let image = |name: &str| bench.fixture.path().join(format!("{name}.tar")).display().to_string();
    for name in ["base", "made"] {
        bench.fixture.undocked(&["save", "-q", "-o", &image(name), name]).finish().expect_code(0);
        docker.said(&["load", "-q", "-i", &image(name)]);
    }
    let context = bench.context().display().to_string();
    docker.said(&["build", "--network", "host", "-q", "-t", "theirs", &context]);
    let list = "for f in $(ls -d /c*); do ls -lRn --time-style=+ $f; done; cat /c14/* /c15 /c11/w/run /c9/* /c13/* 2>/dev/null; true";
    let [theirs, ours] =
        ["theirs", "made"].map(|name| docker.said(&["run", "--rm", "--network", "host", "--entrypoint", "/bin/sh", name, "-c", list]));
    assert_eq!(ours, theirs, "docker sees the same in both");
    let here = bench.inside("cat /c11/w/run; ls /c6 /c7/in");
    assert_eq!(here, docker.said(&["run", "--rm", "--network", "host", "made", "cat /c11/w/run; ls /c6 /c7/in"]));
    let config = |name: &str| {
        let config: Value = serde_json::from_str(&docker.said(&["inspect", "--format", "{{json .Config}}", name])).expect("JSON");
        ["Env", "Entrypoint", "Cmd", "WorkingDir", "Labels", "User", "ExposedPorts"].map(|field| config[field].clone())
    };
    assert_eq!(config("made"), config("theirs"));
}
