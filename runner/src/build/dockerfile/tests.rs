use super::*;

fn steps(text: &str) -> Vec<Step> {
    let parsed = Dockerfile::parse("Dockerfile", text).unwrap();
    parsed.stages.into_iter().flat_map(|stage| stage.steps).collect()
}

fn only(text: &str) -> Instruction {
    let mut steps = steps(&format!("FROM scratch\n{text}\n"));
    assert_eq!(steps.len(), 1, "{text}");
    steps.remove(0).instruction
}

fn shell(text: &str) -> ShellText {
    ShellText::Command(CommandForm::Shell(text.to_owned()))
}

fn command(text: &str) -> ShellText {
    match only(text) {
        Instruction::Run(run) => run.command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stages_steps_and_lines() {
    let text = "# syntax=docker/dockerfile:1\nARG V=1 W\nFROM --platform=$BUILDPLATFORM a:$V AS Build\n\nRUN a \\\n  # said\n  && b\nFROM build\nCOPY --from=build x \\\n y\n";
    let parsed = Dockerfile::parse("Dockerfile", text).unwrap();
    assert_eq!(parsed.globals, [(2, "V".to_owned(), Some("1".to_owned())), (2, "W".to_owned(), None)]);
    let [first, second] = &parsed.stages[..] else { panic!("two stages") };
    assert_eq!((first.line, &*first.base, first.name.as_deref()), (3, "a:$V", Some("build")));
    assert_eq!(first.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(first.text, "FROM --platform=$BUILDPLATFORM a:$V AS Build");
    assert_eq!((first.steps[0].line, &*first.steps[0].text), (5, "RUN a && b"));
    assert_eq!((second.line, second.steps[0].line, &*second.steps[0].text), (8, 9, "COPY --from=build x y"));
    assert_eq!(parsed.target(None).unwrap(), 1);
    assert_eq!(parsed.target(Some("BUILD")).unwrap(), 0);
    assert_eq!(parsed.target(Some("0")).unwrap(), 0);
    assert!(parsed.target(Some("2")).unwrap_err().hint.unwrap().contains("`build`"));
}

#[test]
fn commands() {
    assert_eq!(command("RUN echo  a  b"), shell("echo  a  b"));
    assert_eq!(command("RUN a \\\n   b \\\n\n# no\n   c"), shell("a    b    c"));
    assert_eq!(command("RUN [\"a\", \"b c\"]"), ShellText::Command(CommandForm::Exec(vec!["a".into(), "b c".into()])));
    assert_eq!(command("RUN [ -e x ] && y"), shell("[ -e x ] && y"));
    let backtick = Dockerfile::parse("Dockerfile", "# escape=`\nFROM scratch\nRUN a `\n b\\\n").unwrap();
    assert!(matches!(&backtick.stages[0].steps[0].instruction, Instruction::Run(run) if run.command == shell("a  b\\")));
}

#[test]
fn an_empty_entrypoint_takes_the_parents_away() {
    assert_eq!(only("ENTRYPOINT []"), Instruction::Entrypoint(CommandForm::Exec(Vec::new())));
    assert_eq!(only("entrypoint [ ]"), Instruction::Entrypoint(CommandForm::Exec(Vec::new())));
    assert_eq!(only("CMD []"), Instruction::Cmd(CommandForm::Exec(Vec::new())));
    assert_eq!(only("ONBUILD ENTRYPOINT []"), Instruction::Onbuild("ENTRYPOINT []".into()));
    // Where the same stands in something else, it is that.
    assert_eq!(
        command("RUN cat <<EOF > Dockerfile\nFROM a\nENTRYPOINT []\nEOF"),
        shell("cat <<EOF > Dockerfile\nFROM a\nENTRYPOINT []\nEOF\n")
    );
    assert_eq!(command("RUN <<EOF\nENTRYPOINT []\nEOF"), shell("ENTRYPOINT []\n"));
    assert_eq!(command("RUN echo \\\nENTRYPOINT []"), shell("echo ENTRYPOINT []"));
    let Instruction::Copy(copy) = only("COPY <<EOF /f\nENTRYPOINT []\nEOF") else { panic!("a copy") };
    assert!(matches!(&copy.sources[..], [ContentSource::Text { text, .. }] if text == "ENTRYPOINT []\n"));
    assert_eq!(steps("FROM scratch\nENTRYPOINT []\n")[0].text, "ENTRYPOINT []");
}

#[test]
fn here_documents() {
    let table = [
        ("RUN <<EOF\na\nb\nEOF", shell("a\nb\n")),
        ("RUN <<-'EOF'\n\ta\n\tEOF", shell("a\n")),
        ("RUN <<EOF\n#!/bin/x\na\nEOF", ShellText::Script("#!/bin/x\na\n".into())),
        ("RUN cat <<EOF > /x\na\nEOF", shell("cat <<EOF > /x\na\nEOF\n")),
        ("RUN <<EOF cat\na\nEOF", shell("<<EOF cat\na\nEOF\n")),
        ("RUN cat <<A <<\"B\"\na\nA\nb\nB", shell("cat <<A <<\"B\"\na\nA\nb\nB\n")),
        ("RUN <<A cat - <<B\na\nA\nb\nB", shell("<<A cat - <<B\na\nA\nb\nB\n")),
        ("RUN --network=none python3 <<E\nFROM x\nRUN <<F\nE", shell("python3 <<E\nFROM x\nRUN <<F\nE\n")),
        ("RUN echo $((1<<2)) '<<X'", shell("echo $((1<<2)) '<<X'")),
    ];
    for (text, wanted) in table {
        assert_eq!(command(text), wanted, "{text}");
        let with_next = steps(&format!("FROM scratch\n{text}\nUSER x\n"));
        assert_eq!(with_next.len(), 2, "{text}");
        assert_eq!(with_next[1].line, text.lines().count() + 2, "{text}");
    }
    let Instruction::Copy(copy) = only("COPY <<a.txt <<-\"b\" /x/\nA $X\na.txt\n\tB\n\tb") else { panic!("a copy") };
    let text = |name: &str, text: &str, expand| ContentSource::Text { name: name.into(), text: text.into(), expand };
    assert_eq!(copy.sources, [text("a.txt", "A $X\n", true), text("b", "B\n", false)]);
}

#[test]
fn pairs_and_flags() {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(only("ENV A=1 B=\"2 3\" \\\n C=x\\ y"), Instruction::Env(pairs(&[("A", "1"), ("B", "\"2 3\""), ("C", "x\\ y")])));
    assert_eq!(only("ENV A  the rest = \"of\" it"), Instruction::Env(pairs(&[("A", "the rest = \"of\" it")])));
    assert_eq!(only("LABEL a.b=c \"d e\"=f"), Instruction::Label(pairs(&[("a.b", "c"), ("\"d e\"", "f")])));
    assert_eq!(only("ARG A B=1"), Instruction::Arg(vec![("A".into(), None), ("B".into(), Some("1".into()))]));
    let Instruction::Copy(copy) = only("COPY --link --chown=a:b --chmod=755 [\"a b\", \"c\"]") else { panic!("a copy") };
    assert_eq!((copy.chown.as_deref(), copy.chmod.as_deref(), &*copy.target), (Some("a:b"), Some("755"), "c"));
    assert_eq!(copy.sources, [ContentSource::Path("a b".into())]);
    let Instruction::Run(run) = only("RUN --mount=type=cache,id=x,target=/c --mount=target=/b,source=s --network=none a") else {
        panic!("a run")
    };
    assert_eq!(run.network, RunNetwork::None);
    assert_eq!(run.mounts[0], Mount { target: Some("/c".into()), kind: MountKind::Cache { id: "x".into() } });
    assert_eq!(
        run.mounts[1],
        Mount { target: Some("/b".into()), kind: MountKind::Bind { from: None, source: "s".into(), writes: Writes::Refused } }
    );
    assert!(matches!(only("HEALTHCHECK --interval=1s CMD a b"), Instruction::Healthcheck(Health::Check(options, _)) if options.len() == 1));
    assert_eq!(only("ONBUILD copy a b"), Instruction::Onbuild("copy a b".into()));
    assert_eq!(only("VOLUME /a /b"), Instruction::Volume(vec!["/a".into(), "/b".into()]));
}

/// What is refused, where, and why: line 3 unless told otherwise.
#[test]
fn refusals_name_file_and_line() {
    let table = [
        ("COPY --parents a b", "`COPY --parents` is not supported"),
        ("COPY --exclude=x a b", "`COPY --exclude` is not supported"),
        ("COPY --no a b", "`COPY` knows no option `--no`"),
        ("ADD --from=x a b", "`ADD` knows no option `--from`"),
        ("RUN --mount=type=ssh a", "`RUN --mount=type=ssh` is not supported"),
        ("RUN --mount=type=cache a", "`RUN --mount=type=cache` has no target"),
        ("RUN --security=insecure a", "`RUN --security` is not supported"),
        ("RUN --network=x a", "`RUN --network=x` is not supported"),
        ("FROM a AS 1x", "`1x` is no name for a stage"),
        ("FROM --x a", "`FROM` knows no option `--x`"),
        ("ONBUILD ONBUILD RUN a", "ONBUILD ONBUILD is not allowed"),
        ("ONBUILD FROM a", "`ONBUILD FROM` is not allowed"),
        ("ONBUILD COPY --parents a b", "`COPY --parents` is not supported"),
        ("ENV A=1 B", "`B` is not of the form NAME=VALUE"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV =1", "ENV names can not be blank"),
        ("FETCH a", "unknown instruction 'FETCH'"),
        ("COPY a", "COPY instruction requires at least two arguments"),
        ("SHELL a", "expected JSON array"),
        ("HEALTHCHECK --x=1 CMD a", "`HEALTHCHECK` knows no option `--x`"),
    ];
    for (text, wanted) in table {
        let error = Dockerfile::parse("Dockerfile", &format!("FROM scratch\n\n{text}\nUSER a\n")).unwrap_err();
        assert_eq!(error.to_string(), format!("Dockerfile:3: {wanted}"), "{text}");
    }
    for (text, wanted) in [
        ("", "x: expected at least one FROM instruction"),
        ("RUN a\n", "x:1: expected FROM"),
        ("FROM a AS b\nFROM c AS b\n", "x:2: duplicate stage name 'b'"),
        ("FROM a\nRUN cat <<EOF\nb\n", "x:3: unknown instruction 'b'"),
    ] {
        assert_eq!(Dockerfile::parse("x", text).unwrap_err().to_string(), wanted, "{text:?}");
    }
}
