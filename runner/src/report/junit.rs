//! A batch as JUnit's XML, which CI services show.

use std::fmt::Write as _;
use std::io::{self, Seek, SeekFrom, Write};

use super::batch::{BatchEnd, BatchRecord, BatchSummary};

/// Room for the first lines, which are written last.
const HEAD_BYTES: usize = 1024;

/// A report that is written as events come to their end.
#[derive(Debug)]
pub struct JUnitReport<W> {
    writer: W,
    name: String,
}

impl<W: Write + Seek> JUnitReport<W> {
    /// Begins a report about a handler.
    pub fn begin(mut writer: W, handler: &str) -> io::Result<Self> {
        // A name that leaves room for the rest.
        let name = escaped(&handler.chars().take(40).collect::<String>());
        writer.write_all(&[b' '; HEAD_BYTES])?;
        Ok(Self { writer, name })
    }

    /// Adds an event.
    pub fn add(&mut self, record: &BatchRecord) -> io::Result<()> {
        let seconds = record.figures.map_or(0.0, |figures| figures.duration.as_secs_f64());
        let mut case = format!("<testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\"", self.name, escaped(&record.id));
        let (kind, details) = match &record.end {
            BatchEnd::Success { .. } => {
                case.push_str("/>\n");
                return self.writer.write_all(case.as_bytes());
            }
            BatchEnd::Failed { payload } => ("failure", String::from_utf8_lossy(payload)),
            BatchEnd::NotRun { error } => ("error", error.into()),
        };
        let message = escaped(&record.complaint().unwrap_or_default());
        let _ = write!(case, "><{kind} message=\"{message}\">{}</{kind}>", escaped(&details));
        if !record.log_tail.is_empty() {
            let _ = write!(case, "<system-out>{}</system-out>", escaped(&String::from_utf8_lossy(&record.log_tail)));
        }
        case.push_str("</testcase>\n");
        self.writer.write_all(case.as_bytes())
    }

    /// Ends it.
    pub fn end(mut self, summary: &BatchSummary, seconds: f64) -> io::Result<()> {
        self.writer.write_all(b"</testsuite></testsuites>\n")?;
        let figures = format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{seconds:.3}\"",
            summary.ended(),
            summary.of_function(),
            summary.not_run()
        );
        let head =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {figures}><testsuite name=\"{}\" {figures}>", self.name);
        self.writer.seek(SeekFrom::Start(0))?;
        // Spaces that are left over are between elements.
        self.writer.write_all(head.as_bytes())?;
        self.writer.flush()
    }
}

/// Text for an element or an attribute. What XML has no way to write is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            // XML 1.0, 2.2.
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => {}
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::super::batch::tests::record;
    use super::*;

    #[test]
    fn a_report() {
        let mut bytes = Cursor::new(Vec::new());
        let mut report = JUnitReport::begin(&mut bytes, "app.handler").unwrap();
        let mut summary = BatchSummary::default();
        for end in [
            BatchEnd::Success { payload: "1".into() },
            BatchEnd::Failed { payload: r#"{"errorMessage":"a < b\u0000"}"#.into() },
            BatchEnd::NotRun { error: "no \"JSON\"\u{1}".to_owned() },
        ] {
            let record = record(end);
            summary.count(&record);
            report.add(&record).unwrap();
        }
        report.end(&summary, Duration::from_millis(1234).as_secs_f64()).unwrap();
        let text = String::from_utf8(bytes.into_inner()).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let figures = r#"tests="3" failures="1" errors="1" time="1.234""#;
        let case = r#"<testcase classname="app.handler" name="a.jsonl:5" time="0.003""#;
        let log = "<system-out>START&#10;</system-out>";
        assert_eq!(lines[0], r#"<?xml version="1.0" encoding="UTF-8"?>"#);
        let first = lines[1].split_once(">    ").unwrap();
        assert_eq!(first.0, format!(r#"<testsuites {figures}><testsuite name="app.handler" {figures}"#));
        assert_eq!(first.1.trim(), format!("{case}/>"));
        let error = "{&quot;errorMessage&quot;:&quot;a &lt; b\\u0000&quot;}";
        assert_eq!(lines[2], format!(r#"{case}><failure message="a &lt; b">{error}</failure>{log}</testcase>"#));
        assert_eq!(lines[3], format!(r#"{case}><error message="no &quot;JSON&quot;">no &quot;JSON&quot;</error>{log}</testcase>"#));
        assert_eq!(lines[4], "</testsuite></testsuites>");
    }
}
