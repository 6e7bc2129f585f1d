//! Here-documents of `RUN`, wherever they stand in its line: the grammar knows them at the beginning alone, so they are taken out of the text before it reads it.

use std::collections::BTreeMap;

use parse_dockerfile as grammar;

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HereDocument {
    /// The name of its end.
    pub(super) name: String,
    /// What it holds, tabs stripped where `<<-` said so.
    pub(super) text: String,
    /// With its end, as it was written.
    pub(super) raw: String,
}

/// The here-documents of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunDocuments {
    /// The line that asks for them, without options, as it was written.
    pub(super) line: String,
    /// In their order.
    pub(super) documents: Vec<HereDocument>,
}

/// The text with blanks in the place of here-documents, which change no offset and no line; and those, by the offset of their `RUN`.
pub(super) fn take_out(text: &str) -> (String, BTreeMap<usize, RunDocuments>) {
    let mut found = BTreeMap::new();
    let mut text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
    while let Some((start, documents, blank)) = next(&text, &found) {
        let blanks: String = text[blank.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
        text.replace_range(blank, &blanks);
        found.insert(start, documents);
    }
    (text, found)
}

type Found = (usize, RunDocuments, std::ops::Range<usize>);

fn next(text: &str, known: &BTreeMap<usize, RunDocuments>) -> Option<Found> {
    for instruction in grammar::parse_iter(text).ok()? {
        // Where the grammar fails it fails again when all is read, and is heard then. The instruction before may be one whose document is the reason.
        let Ok(instruction) = instruction else { return None };
        let grammar::Instruction::Run(run) = &instruction else { continue };
        let start = run.run.span.start;
        let grammar::Command::Shell(shell) = &run.arguments else { continue };
        if known.contains_key(&start) {
            continue;
        }
        // One at the beginning was cut off its line by the grammar.
        let line_start =
            run.options.last().map_or(run.run.span.end, |flag| flag.value.as_ref().map_or(run.run.span.end, |value| value.span.end));
        let line = text[line_start..shell.span.end.max(line_start)].trim();
        let names = names(line);
        if names.is_empty() {
            continue;
        }
        let mut at = text[shell.span.end..].find('\n').map(|end| shell.span.end + end + 1)?;
        let mut body = at;
        let mut documents: Vec<HereDocument> = Vec::new();
        for (name, strip) in names {
            let (document, end) = read(text, at, &name, strip)?;
            // The grammar knows of one that stands first, and wants its end.
            if documents.is_empty() && line.starts_with("<<") {
                body = end;
            }
            documents.push(document);
            at = end;
        }
        return Some((start, RunDocuments { line: line.to_owned(), documents }, body..at));
    }
    None
}

fn read(text: &str, start: usize, name: &str, strip: bool) -> Option<(HereDocument, usize)> {
    let mut at = start;
    let mut content = String::new();
    for line in text[start..].split_inclusive('\n') {
        at += line.len();
        let kept = if strip { line.trim_start_matches('\t') } else { line };
        if kept.trim_end_matches(['\n', '\r']) == name {
            return Some((HereDocument { name: name.to_owned(), text: content, raw: text[start..at].to_owned() }, at));
        }
        content.push_str(kept);
    }
    None
}

/// The ends that a shell line's words `<<NAME`, `<<-NAME`, `3<<"NAME"` ask for, and whether tabs are stripped.
fn names(line: &str) -> Vec<(String, bool)> {
    let words = words(line);
    let name = |word: &String| {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (rest, strip) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
        (!name.is_empty() && !rest.contains('<')).then_some((name, strip))
    };
    words.iter().filter_map(name).collect()
}

/// Splits at blanks outside quotes; the quotes stay.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quote, mut escaped) = (None, false);
    for c in line.chars() {
        match quote {
            _ if escaped => escaped = false,
            None if c.is_whitespace() => {
                words.push(String::new());
                continue;
            }
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if c == open => quote = None,
            None | Some('"') if c == '\\' => escaped = true,
            _ => {}
        }
        words.last_mut().expect("there is one from the start").push(c);
    }
    words.retain(|word| !word.is_empty());
    words
}
