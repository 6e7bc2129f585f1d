//! Patterns as docker's `--filter reference=` has them: `*`, `?`, `[a-z]` and `\`, none of which fits a slash.

/// Whether a pattern fits the whole of a text. A malformed class fits nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    fits(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

/// Goes back to the last `*` alone where the rest does not fit, so the time is bounded by the product of the lengths.
fn fits(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if t == text.len() && pattern[p..].iter().all(|&c| c == '*') {
            return true;
        }
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        match text.get(t).and_then(|&c| one(&pattern[p..], c)) {
            Some(length) => (p, t) = (p + length, t + 1),
            None => match star {
                Some((after, from)) if text.get(from).is_some_and(|&c| c != '/') => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// How long the part of the pattern is that fits this character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => (c != '/').then_some(1),
        ['[', class @ ..] => {
            let is_not = class.first() == Some(&'^');
            let class = &class[usize::from(is_not)..];
            let end = class.iter().skip(1).position(|&c| c == ']')? + 1;
            let is_in = in_class(&class[..end], c);
            (is_in != is_not && c != '/').then_some(end + 2 + usize::from(is_not))
        }
        ['\\', literal, ..] => (*literal == c).then_some(2),
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

fn in_class(class: &[char], c: char) -> bool {
    match class {
        [low, '-', high, rest @ ..] => (*low..=*high).contains(&c) || in_class(rest, c),
        [one, rest @ ..] => *one == c || in_class(rest, c),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, wanted) in [
            ("lambci/lambda", "lambci/lambda", true),
            ("lambci/*", "lambci/lambda:x", true),
            ("*", "lambci/lambda", false),
            ("*/*", "lambci/lambda", true),
            ("*:latest", "a:latest", true),
            ("b*b*x", "busybox", true),
            ("b*b*y", "busybox", false),
            ("nodejs?.x", "nodejs8.x", true),
            ("nodejs[0-8].x", "nodejs8.x", true),
            ("nodejs[^0-8].x", "nodejs8.x", false),
            ("a[", "a[", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("**a**", "bab", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
