//! A Dockerfile and a `.dockerignore` that somebody else wrote: both are read or refused, a line that is to blame is one of the file's, and no word of it
//! makes anybody wait.

use runner::build::dockerfile::{ContentSource, Dockerfile, Instruction};
use runner::build::ignore::Ignore;
use runner::build::{config, pattern, words};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "dockerfile",
    run,
    seeds,
    words: &[
        "FROM ",
        "scratch\n",
        " AS ",
        "RUN ",
        "COPY ",
        "--from=",
        "--mount=type=cache,target=",
        "ADD ",
        "ENV ",
        "ARG ",
        "CMD [\"",
        "\"]",
        "WORKDIR ",
        "<<EOF\n",
        "\nEOF\n",
        "<<-'E'",
        "\tE\n",
        "\\\n",
        "`\n",
        "# escape=`\n",
        "# syntax=",
        "${X:-",
        "${",
        "}",
        "$X",
        "'",
        "\"",
        "**/",
        "!",
        "[^a-",
        "]",
        "\r\n",
        "\u{feff}",
    ],
    short_run: 20_000,
};

fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (file, ignored) = text.split_once('\0').unwrap_or((&text, ""));
    if let Ok(ignore) = Ignore::parse(ignored) {
        for path in ["a", "a/b/c", ".dockerignore", "\u{e4}/x.md"] {
            let _ = ignore.leaves_out(path);
        }
    }
    match Dockerfile::parse("Dockerfile", file) {
        Err(error) => assert!(error.line <= file.split('\n').count() + 1, "{error}"),
        Ok(parsed) => {
            assert!(!parsed.stages.is_empty());
            let value = |name: &str| (name.len().is_multiple_of(2)).then(|| "of it".to_owned());
            let lines = file.split('\n').count();
            for step in parsed.stages.iter().flat_map(|stage| &stage.steps) {
                assert!((1..=lines).contains(&step.line), "line {} of {lines}", step.line);
                assert!(!step.text.contains('\n'));
                if let Instruction::Copy(copy) = &step.instruction {
                    for source in &copy.sources {
                        let ContentSource::Path(path) = source else { continue };
                        if let Ok(path) = words::expand(path, parsed.escape, &value) {
                            let cleaned = config::clean(&path);
                            assert!(cleaned.starts_with('/') && cleaned.split('/').all(|part| part != ".."), "{cleaned}");
                            let _ = pattern::matches(&path, "a/b");
                        }
                    }
                }
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "FROM public.ecr.aws/lambda/python:3.12\nCOPY requirements.txt ${LAMBDA_TASK_ROOT}\nRUN pip install -r requirements.txt\nCMD [ \"a.b\" ]\n\0*.md\n!README.md\n",
        "# escape=`\nARG V=1\nFROM --platform=$P a:$V AS b\nENV A=\"x y\" B='z'\nLABEL a=b\nRUN a `\n # c\n && d\nFROM b\nCOPY --from=b --chown=1:2 a* [b] /c/\n\0**/a\n",
        "FROM scratch\nRUN cat <<A - <<-'B'\na\nA\n\tb\n\tB\nCOPY <<x /x\n$X ${Y:-z}\nx\nHEALTHCHECK --interval=1s CMD a\nONBUILD ADD a b\nSHELL [\"a\"]\nVOLUME /a\n\0a/**/b\n[x-z]\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
