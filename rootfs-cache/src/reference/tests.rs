use std::path::Path;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn registry_references() {
    let at = format!("@sha256:{HEX}");
    let table = [
        ("lambci/lambda:nodejs12.x", "docker.io", "lambci/lambda", Some("nodejs12.x"), false),
        ("docker.io/lambci/lambda", "docker.io", "lambci/lambda", Some("latest"), false),
        ("index.docker.io/lambci/lambda", "docker.io", "lambci/lambda", Some("latest"), false),
        ("debian", "docker.io", "library/debian", Some("latest"), false),
        ("debian:12", "docker.io", "library/debian", Some("12"), false),
        ("public.ecr.aws/lambda/python:3.11", "public.ecr.aws", "lambda/python", Some("3.11"), false),
        ("localhost/a", "localhost", "a", Some("latest"), false),
        ("localhost:5000/lambda/python:3.11", "localhost:5000", "lambda/python", Some("3.11"), false),
        ("127.0.0.1:41234/test/edge-odd", "127.0.0.1:41234", "test/edge-odd", Some("latest"), false),
        ("[::1]:5000/a/b:c", "[::1]:5000", "a/b", Some("c"), false),
        ("[2001:db8::7]/a", "[2001:db8::7]", "a", Some("latest"), false),
        ("Host/a", "Host", "a", Some("latest"), false),
        ("a__b/c-d--e.f_g:_T.a-g", "docker.io", "a__b/c-d--e.f_g", Some("_T.a-g"), false),
        (&format!("lambci/lambda{at}"), "docker.io", "lambci/lambda", None, true),
        (&format!("localhost:5000/x:y{at}"), "localhost:5000", "x", Some("y"), true),
        (&format!("nodejs12.x{at}"), "docker.io", "library/nodejs12.x", None, true),
        ("nodejs12.x:latest", "docker.io", "library/nodejs12.x", Some("latest"), false),
    ];
    for (text, registry, repository, tag, has_digest) in table {
        let Ok(ImageReference::Registry(reference)) = text.parse() else { panic!("{text}: {:?}", text.parse::<ImageReference>()) };
        assert_eq!((reference.registry(), reference.repository(), reference.tag()), (registry, repository, tag), "{text}");
        assert_eq!(reference.digest().is_some(), has_digest, "{text}");
        assert_eq!(reference.to_string().parse(), Ok(reference), "{text}: what is shown means the same");
    }
}

#[test]
fn docker_hub_is_served_elsewhere() {
    for (text, api, host) in [
        ("lambci/lambda", "registry-1.docker.io", "docker.io"),
        ("[::1]:5000/a", "[::1]:5000", "::1"),
        ("localhost:5000/a", "localhost:5000", "localhost"),
    ] {
        let reference: RegistryReference = text.parse().unwrap();
        assert_eq!((reference.api_host(), reference.host()), (api, host));
    }
}

#[test]
fn runtimes() {
    let runtimes = [
        "nodejs4.3",
        "nodejs12.x",
        "nodejs24.x",
        "python2.7",
        "python3.12",
        "ruby3.4",
        "java8",
        "java8.al2",
        "java25",
        "go1.x",
        "dotnetcore3.1",
        "dotnet10",
        "provided",
        "provided.al2",
        "provided.al2023",
    ];
    for text in runtimes {
        assert_eq!(text.parse(), Ok(ImageReference::Runtime(RuntimeId(text.to_owned()))), "{text}");
    }
    for text in ["python", "node", "nodejs", "golang", "javascript1", "provided2", "providedx", "python3_9", "go"] {
        assert!(matches!(text.parse(), Ok(ImageReference::Registry(reference)) if reference.bare_name() == Some(text)), "{text}");
    }
    for text in ["debian:12", "localhost/debian", "a/debian"] {
        assert_eq!(text.parse::<RegistryReference>().unwrap().bare_name(), None, "{text}");
    }
}

#[test]
fn layouts() {
    for (text, directory, name) in [
        ("oci:/var/cache/layout:lambci/lambda:nodejs12.x", "/var/cache/layout", Some("lambci/lambda:nodejs12.x")),
        ("oci:layout", "layout", None),
        ("oci:a b/../c:x", "a b/../c", Some("x")),
    ] {
        let Ok(ImageReference::Layout(reference)) = text.parse() else { panic!("{text}") };
        assert_eq!((reference.path(), reference.name()), (Path::new(directory), name), "{text}");
        assert_eq!(reference.to_string(), text);
    }
    assert_eq!("host".parse(), Ok(ImageReference::Host));
}

#[test]
fn faults_say_what_and_where() {
    let long = |n: usize| "a".repeat(n);
    let table = [
        ("".to_owned(), "is empty"),
        (long(9000), "at most 8192"),
        (long(256), "at most 255"),
        (format!("a:{}", long(129)), "is not a tag"),
        ("a:".into(), "`` is not a tag"),
        ("a:-x".into(), "`-x` is not a tag"),
        ("a:b:c".into(), "`b:c` is not a tag"),
        ("lambci/Lambda:x".into(), "`Lambda` is not a part of a repository name"),
        ("Lambda".into(), "`Lambda` is not a part of a repository name"),
        ("a//b".into(), "`` is not a part"),
        ("a/".into(), "`` is not a part"),
        ("/a".into(), "`` is not a part"),
        ("a/..".into(), "`..` is not a part"),
        ("a/b_".into(), "`b_` is not a part"),
        ("a/b___c".into(), "`b___c` is not a part"),
        ("a/b.-c".into(), "`b.-c` is not a part"),
        ("a b/c".into(), "`a b` is not a part"),
        ("http://host/a".into(), "`http:` is not a registry"),
        ("host:0/a".into(), "`host:0` is not a registry"),
        ("host:99999/a".into(), "`host:99999` is not a registry"),
        ("host:+1/a".into(), "`host:+1` is not a registry"),
        ("-x.y/a".into(), "`-x.y` is not a registry"),
        ("x..y/a".into(), "`x..y` is not a registry"),
        ("[::1/a".into(), "`[::1` is not a registry"),
        ("[::g]:1/a".into(), "`[::g]:1` is not a registry"),
        ("[::1]5/a".into(), "`[::1]5` is not a registry"),
        ("user@host/a".into(), "what follows `@` is not a digest"),
        (format!("a@sha512:{HEX}"), "what follows `@` is not a digest"),
        ("a@sha256:../../x".into(), "what follows `@` is not a digest"),
        ("oci:".into(), "the directory is missing"),
        ("oci::x".into(), "the directory is missing"),
        ("oci:a:".into(), "REF after the colon is missing"),
        ("oci-archive:".into(), "`oci-archive:FILE[:REF]` is wanted, but the file is missing"),
        ("docker-archive:a.tar:".into(), "`docker-archive:FILE[:REF]` is wanted, but REF after the colon is missing"),
    ];
    for (text, wanted) in table {
        let fault = text.parse::<ImageReference>().expect_err(&text).to_string();
        assert!(fault.contains(wanted), "{text}: {fault}");
    }
}

#[test]
fn platforms() {
    for (text, shown) in [
        ("linux/amd64", Some("linux/amd64")),
        ("amd64", Some("linux/amd64")),
        ("linux/x86_64", Some("linux/amd64")),
        ("linux/arm64/v8", Some("linux/arm64")),
        ("aarch64", Some("linux/arm64")),
        ("linux/amd64/v3", Some("linux/amd64/v3")),
        ("windows/amd64", None),
        ("linux/riscv64", None),
        ("linux/amd64/../x", None),
        ("", None),
    ] {
        assert_eq!(text.parse::<Platform>().ok().map(|platform| platform.to_string()).as_deref(), shown, "{text}");
    }
}
