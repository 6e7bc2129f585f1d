//! `ENTRYPOINT []`, which takes the parent's away: the grammar refuses it, so it reads marks of the same length in place of the brackets.

/// Stands for a bracket; no text has it.
const MARK: char = '\u{1}';

/// The text with the marks.
pub(super) fn mark(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| if is_empty_entrypoint(line) { line.replace(['[', ']'], "\u{1}") } else { line.to_owned() })
        .collect()
}

fn is_empty_entrypoint(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| word.eq_ignore_ascii_case("ONBUILD"));
    let is_entrypoint = words.next().is_some_and(|word| word.eq_ignore_ascii_case("ENTRYPOINT"));
    is_entrypoint && words.collect::<String>() == "[]"
}

/// Whether that is all a text holds.
pub(super) fn is_marked(text: &str) -> bool {
    text.split_whitespace().flat_map(str::chars).eq([MARK, MARK])
}

/// A text as it was: where the line was no instruction.
pub(super) fn unmark(text: &str) -> String {
    let mut brackets = ['[', ']'].into_iter().cycle();
    text.chars().map(|c| if c == MARK { brackets.next().unwrap_or(c) } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_empty_entrypoint_is_marked() {
        for (text, is_one) in [
            ("ENTRYPOINT []", true),
            ("  entrypoint\t[ ]  \r\n", true),
            ("ONBUILD ENTRYPOINT []\n", true),
            ("ENTRYPOINT [\"\"]", false),
            ("ENTRYPOINT [] x", false),
            ("CMD []", false),
            ("ENTRYPOINT", false),
        ] {
            let marked = mark(text);
            assert_eq!((marked != text, marked.len(), unmark(&marked)), (is_one, text.len(), text.to_owned()), "{text}");
        }
        assert!(is_marked("\u{1} \u{1}\n") && !is_marked("\u{1}") && !is_marked("[]") && !is_marked(""));
    }
}
