//! Where a build takes things from beside files of its context: archives and addresses for `ADD`, mounts and secrets for `RUN`.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::building::{Bench, packed};
use tests::image::{ImageLayer, Packing, sha256};
use tests::real_registry::RealRegistry;
use tests::skip;
use tests::tar::Tar;
use tests::tls::{Authority, Lasting, TunnelProxy};
use tests::wire::{Reply, Server};

#[test]
fn archives_are_unpacked_and_read_as_contexts() {
    let Some(bench) = Bench::new() else { return };
    let tar = Tar::new().folder("in").file("in/a", "of the archive").symlink("in/l", "a").finish();
    bench.file("x.tar", &tar).file("x.gz", ImageLayer::of_bytes(b"no archive", Packing::Gzip).blob);
    bench.file("x.tgz", ImageLayer::of_bytes(&tar, Packing::Gzip).blob).file("x.zst", ImageLayer::of_bytes(&tar, Packing::Zstd).blob);
    bench.file("Dockerfile", "FROM base\nADD x.tar /tar/\nADD x.tgz x.zst /both/\nADD x.gz /plain/\nCOPY x.tar /copied/\n").built(&[]);
    let said = bench.inside("cat /tar/in/l /both/in/a; ls /plain /copied");
    assert_eq!(said, "of the archiveof the archive/copied:\nx.tar\n\n/plain:\nx.gz\n");
    // A context on standard input, packed or not; a Dockerfile of another name in it; a Dockerfile alone.
    let context = Tar::new()
        .file("Dockerfile", "FROM base\nCOPY f /f\nCOPY . /all/\n")
        .file("Other", "FROM base\nCOPY f /other\n")
        .file("f", "f")
        .file(".dockerignore", "O*")
        .finish();
    let from =
        |options: &[&str], bytes: &[u8]| bench.fixture.undocked(&["build", "-t", "made"]).args(options).arg("-").stdin(bytes).finish();
    from(&[], &context).expect_code(0);
    assert_eq!(bench.inside("cat /f; ls /all"), "fDockerfile\nf\n");
    from(&["-f", "Other"], &ImageLayer::of_bytes(&context, Packing::Gzip).blob).expect_code(0);
    assert_eq!(bench.inside("cat /other"), "f");
    from(&[], b"FROM base\nRUN echo alone > /alone\n").expect_code(0);
    assert_eq!(bench.inside("cat /alone"), "alone\n");
    from(&[], b"FROM base\nCOPY f /f\n").expect_code(1).expect_err("Dockerfile:2: `f` is not there");
    from(&["-f", "-"], b"").expect_code(2);
    bench.file("f", "of the folder");
    bench.build(&["-f", "-"]).stdin("FROM base\nCOPY f /f\n").finish().expect_code(0);
    assert_eq!(bench.inside("cat /f"), "of the folder");
    bench.fixture.expect_nothing_left();
}

/// As the programs themselves write them; AWS's own images are made of such.
#[test]
fn archives_of_xz_and_bzip2_are_unpacked() {
    let Some(bench) = Bench::new() else { return };
    let tar = Tar::new().folder("in").file("in/a", "of the archive").symlink("in/l", "a").finish();
    let [xz, bzip2] = ["xz", "bzip2"].map(|program| packed(program, &["-9"], &tar));
    bench
        .file("x.tar.xz", &xz)
        .file("x.tbz", &bzip2)
        .file("joined.xz", [packed("xz", &[], &tar[..700]), packed("xz", &[], &tar[700..])].concat());
    bench.file("text.xz", packed("xz", &[], b"no archive")).file("cut", &xz[..20]);
    bench.file(
        "Dockerfile",
        "FROM base\nADD x.tar.xz /xz/\nADD x.tbz /bzip2/\nADD joined.xz /joined/\nADD text.xz cut /plain/\nCOPY x.tbz /copied/\n",
    );
    bench.built(&[]);
    let said = bench.inside("cat /xz/in/l /bzip2/in/a /joined/in/l; ls /plain /copied");
    assert_eq!(said, format!("{}/copied:\nx.tbz\n\n/plain:\ncut\ntext.xz\n", "of the archive".repeat(3)));
    for program in ["xz", "bzip2"] {
        let context = Tar::new().file("Dockerfile", "FROM base\nCOPY f /f\n").file("f", program).finish();
        let ran = bench.fixture.undocked(&["build", "-t", "made", "-"]).stdin(packed(program, &[], &context)).finish();
        ran.expect_code(0);
        assert_eq!(bench.inside("cat /f"), program);
    }
    bench.fixture.expect_nothing_left();
}

/// Cut, damaged, out of all proportion, and with a dictionary that would take all memory: each is told at its line, and nothing stays.
#[test]
fn hostile_archives_of_xz_and_bzip2_are_refused() {
    let Some(bench) = Bench::new() else { return };
    let noise: Vec<u8> = (0..600_000_u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect();
    let tar = Tar::new().file("a", &noise).finish();
    let [xz, bzip2] = ["xz", "bzip2"].map(|program| packed(program, &[], &tar));
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 4 * 3].to_vec();
    let damaged = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        bytes
    };
    let zeros = Tar::new().file("zeros", vec![0; 300 << 20]).finish();
    let table = [
        ("cut xz", cut(&xz), "the compressed data are damaged after"),
        ("cut bzip2", cut(&bzip2), "the compressed data are damaged after"),
        ("damaged xz", damaged(xz), "the compressed data are damaged after"),
        ("damaged bzip2", damaged(bzip2), "the compressed data are damaged after"),
        ("a bomb of xz", packed("xz", &[], &zeros), "more than 1100 bytes for every compressed one"),
        ("a bomb of bzip2", packed("bzip2", &[], &zeros), "more than 1100 bytes for every compressed one"),
    ];
    for (what, bytes, wanted) in table {
        bench.file("x", bytes).file("Dockerfile", "FROM base\n\nADD x /\n");
        let ran = bench.build(&[]).finish();
        assert!(ran.err().contains("Dockerfile:3: cannot unpack `x`") && ran.err().contains(wanted), "{what}: {}", ran.err());
        ran.expect_code(125);
    }
    bench.file("x", packed("xz", &["--lzma2=dict=512MiB"], &tar));
    bench.build(&[]).finish().expect_code(125).expect_err("its xz dictionary is larger than the 128 MiB that are taken");
    bench.fixture.expect_nothing_left();
}

/// A server of files. How often it was asked is counted.
fn files() -> (Server, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let archive = ImageLayer::of_bytes(&Tar::new().file("in", "x").finish(), Packing::Gzip).blob;
    let server = Server::start(move |request| {
        let earlier = count.fetch_add(1, Ordering::SeqCst);
        match &*request.path {
            "/f/a.txt" | "/f/a.txt?token=1" | "/f/with%20blank" | "/" => {
                Reply::new(200, "downloaded").header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            }
            "/f/a.tar.gz" => Reply::new(200, archive.clone()),
            "/moved" => Reply::new(302, "").header("Location", "/f/a.txt"),
            "/plain" => Reply::new(302, "").header("Location", "http://files.example/a.txt"),
            "/round" => Reply::new(302, "").header("Location", "/round"),
            "/busy" if earlier == 0 => Reply::new(503, "").header("Retry-After", "0"),
            "/busy" => Reply::new(200, "not busy"),
            "/cut" if earlier == 0 => Reply::new(200, "whole at last").cut_after(5),
            "/cut" => Reply::new(200, "whole at last"),
            "/changing" => Reply::new(200, format!("{}", earlier / 2)),
            _ => Reply::new(404, "no such file"),
        }
    });
    (server, asked)
}

#[test]
fn addresses_are_downloaded_and_not_unpacked() {
    let Some(bench) = Bench::new() else { return };
    let (server, _) = files();
    let at = format!("http://{}", server.address());
    let text = format!(
        "FROM base\nARG AT={at}\nADD $AT/f/a.txt /d/\nADD $AT/f/a.txt?token=1 /e/named\nADD $AT/f/a.tar.gz here $AT/f/with%20blank /f/\n\
         ADD $AT /g/index\nADD $AT/moved /\nADD --chown=7:8 --chmod=755 $AT/f/a.txt /h/\n"
    );
    bench.file("here", "of the context").file("Dockerfile", text).built(&[]).expect_err(&format!("---> Downloading {at}/f/a.txt\n"));
    assert!(
        bench.last_layer().lines().any(|line| line.starts_with("-rwxr-xr-x 7/8") && line.ends_with("h/a.txt")),
        "{}",
        bench.last_layer()
    );
    let said =
        bench.inside("cat /d/a.txt /e/named /g/index /moved; ls /f; stat -c %a:%u:%n /d/a.txt /f/*; gzip -dc < /f/a.tar.gz | head -c 2");
    let modes = "600:0:/d/a.txt\n600:0:/f/a.tar.gz\n644:0:/f/here\n600:0:/f/with blank\n";
    assert_eq!(said, format!("{}a.tar.gz\nhere\nwith blank\n{modes}in", "downloaded".repeat(4)));
    bench.fixture.expect_nothing_left();
}

#[test]
fn downloads_that_fail_are_tried_again_or_told() {
    let Some(bench) = Bench::new() else { return };
    for (path, content) in [("busy", "not busy"), ("cut", "whole at last")] {
        let (server, asked) = files();
        bench.file("Dockerfile", format!("FROM base\nADD http://{}/{path} /got\n", server.address())).built(&[]);
        assert_eq!((bench.inside("cat /got").as_str(), asked.load(Ordering::SeqCst)), (content, 2));
    }
    let (server, _) = files();
    for (path, code, wanted) in [
        ("none", 1, "/none`: the server answered 404 Not Found: no such file"),
        ("plain", 125, "leads to `http://files.example/a.txt`, which is refused: it is plain HTTP"),
        ("round", 125, "there were too many redirects before"),
    ] {
        bench.file("Dockerfile", format!("FROM base\n\nADD http://{}/{path} /got\n", server.address()));
        let ran = bench.build(&[]).finish().expect_code(code);
        assert!(
            ran.err().contains("undocked: Dockerfile:3: cannot download `http://127.0.0.1:") && ran.err().contains(wanted),
            "{}",
            ran.err()
        );
    }
    bench.fixture.expect_nothing_left();
}

#[test]
fn what_an_address_gives_decides_whether_a_step_is_done_again() {
    let Some(bench) = Bench::new() else { return };
    let (server, asked) = files();
    let known = |bench: &Bench| bench.built(&[]).err().matches("---> Using cache").count();
    bench.file("Dockerfile", format!("FROM base\nADD http://{}/changing /got\n", server.address()));
    assert_eq!([known(&bench), known(&bench), known(&bench)], [0, 1, 0]);
    assert_eq!(bench.inside("cat /got"), "1");
    // What has to come is known: nobody is asked a second time.
    let digest = sha256(b"downloaded");
    let with = |digest: &str| format!("FROM base\nARG SUM={digest}\nADD --checksum=$SUM http://{}/f/a.txt /got\n", server.address());
    bench.file("Dockerfile", with(&digest));
    let before = asked.load(Ordering::SeqCst);
    assert_eq!([known(&bench), known(&bench), asked.load(Ordering::SeqCst) - before], [0, 1, 1]);
    assert_eq!(bench.inside("cat /got"), "downloaded");
    bench.file("Dockerfile", with(&format!("sha256:{}", "0".repeat(64))));
    bench
        .build(&[])
        .finish()
        .expect_code(1)
        .expect_err(&format!("Dockerfile:3: `http://{}/f/a.txt` has the digest {digest}, and sha256:0000", server.address()));
    bench.fixture.expect_nothing_left();
}

#[test]
fn addresses_are_reached_as_registries_are() {
    if !skip::has_program("openssl") {
        skip::skip(skip::Lack::Providable, "openssl is not installed (tests/images/setup.sh ci)");
        return;
    }
    let Some(bench) = Bench::new() else { return };
    // Something that speaks TLS, and is found through a proxy alone.
    let Some(plain) = RealRegistry::start() else { return };
    let authority = Authority::create(bench.fixture.path());
    let certificate = authority.certificate("files.test", Lasting::Now);
    let server = plain.with_tls(&certificate.certificate, &certificate.key, None);
    let proxy = TunnelProxy::start(server.address());
    let build = |options: &[&str]| bench.build(options).env("HTTPS_PROXY", format!("http://{}", proxy.address())).finish();
    bench.file("Dockerfile", "FROM base\nADD https://files.test/v2/ /got\n");
    build(&[]).expect_code(125).expect_err("name its authority with `--ca FILE`");
    build(&["--ca", &authority.file().display().to_string()]).expect_code(0);
    assert_eq!(bench.inside("cat /got"), "{}");
    assert!(proxy.asked().iter().all(|line| line.starts_with("CONNECT files.test:443 ")), "{:?}", proxy.asked());
}

/// The lines that `docker init` writes, and what stands in docker's guides: what is mounted is there for the command and gone afterwards.
#[test]
fn mounts_of_the_context_of_stages_and_of_images() {
    let Some(bench) = Bench::new() else { return };
    bench.file("package.json", "{}").file("src/x", "code").file("hidden/k", "k").file(".dockerignore", "hidden\n");
    let text = "# syntax=docker/dockerfile:1\nFROM base AS deps\nWORKDIR /usr/src/app\n\
        RUN --mount=type=bind,source=package.json,target=package.json \\\n    --mount=type=cache,target=/var/npm,sharing=locked \\\n    cat package.json > /out\n\
        RUN --mount=type=cache,target=/go/pkg/mod/ --mount=type=bind,target=. cat src/x >> /out; ls hidden 2>/dev/null; ! touch src/y 2>/dev/null\n\
        RUN --mount=type=bind,target=.,rw echo written > src/y; cat src/y >> /out; rm src/x\n\
        FROM base\nRUN --mount=type=bind,from=deps,source=/out,target=/tmp/out cp /tmp/out /final\n\
        RUN --mount=from=deps,target=/deps,rw touch /deps/new; cat /deps/out >> /final\n\
        RUN --mount=from=lambci/lambda:nodejs12.x,source=/var/task,target=/image ls -d /image >> /final\n\
        RUN --mount=type=cache,target=/kept/deep/er echo mine > /kept/stays\n";
    bench.file("Dockerfile", text).built(&[]);
    assert_eq!(
        bench.inside("cat /final; ls /tmp/out /image /deps 2>/dev/null; find /kept"),
        "{}codewritten\n{}codewritten\n/image\n/kept\n/kept/stays\n"
    );
    assert!(bench.context().join("src/x").exists() && !bench.context().join("src/y").exists(), "the context stays as it is");
    bench.built(&["--target", "deps"]);
    assert_eq!(bench.inside("find /usr/src /var/npm /go 2>/dev/null; true"), "/usr/src\n/usr/src/app\n");
    // A context that is an archive has them, too; another content is another step.
    let context = Tar::new().file("Dockerfile", "FROM base\nRUN --mount=target=/c cat /c/f > /got\n").file("f", "packed").finish();
    bench.fixture.undocked(&["build", "-t", "made", "-"]).stdin(context).finish().expect_code(0);
    assert_eq!(bench.inside("cat /got"), "packed");
    bench.file("src/x", "other").built(&[]);
    assert!(bench.inside("cat /final").starts_with("{}otherwritten\n"));
    bench.fixture.expect_nothing_left();
}

#[test]
fn secrets_are_seen_by_their_command_alone() {
    let Some(bench) = Bench::new() else { return };
    let file = bench.fixture.path().join("token");
    std::fs::write(&file, "hush-of-a-file").expect("written");
    let text = "FROM base\nRUN --mount=type=secret,id=token stat -c %a /run/secrets/token > /seen; wc -c < /run/secrets/token >> /seen\n\
        RUN --mount=type=secret,id=token,target=/etc/npmrc,required=true wc -c < /etc/npmrc >> /seen\n\
        RUN --mount=type=secret,id=word,env=WORD --mount=type=secret,id=none printf ${#WORD} >> /seen; ls /run/secrets >> /seen 2>/dev/null; true\n";
    let options = [format!("id=token,src={}", file.display()), "id=word,env=MY_WORD".to_owned()];
    let options: Vec<&str> = options.iter().flat_map(|option| ["--secret", option]).collect();
    let ran = bench.file("Dockerfile", text).build(&options).env("MY_WORD", "hush-of-a-variable").finish().expect_code(0);
    assert_eq!(bench.inside("cat /seen; ls -A /etc/npmrc /run/secrets 2>/dev/null; true"), "400\n14\n14\n18");
    let documents = bench.documents();
    for told in [ran.err(), documents.0.to_string(), documents.1.to_string()] {
        assert!(!told.contains("hush-of"), "{told}");
    }
    let grep = Command::new("grep").args(["-rl", "hush-of"]).arg(bench.fixture.cache()).output().expect("grep starts");
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "no file of the cache holds one");
    // A secret is no part of what a step is made of.
    std::fs::write(&file, "another").expect("written");
    let again = bench.build(&options).env("MY_WORD", "x").finish().expect_code(0);
    assert_eq!(again.err().matches("---> Using cache").count(), 3);
    bench.fixture.expect_nothing_left();
}
