//! Notes as JSON, written by hand: the probe has no dependencies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

/// Names with values that are JSON already.
#[derive(Default)]
pub struct Notes(BTreeMap<String, String>);

impl Notes {
    pub fn set(&mut self, name: &str, json: &str) {
        self.0.insert(name.to_owned(), json.to_owned());
    }

    pub fn text(&mut self, name: &str, text: &str) {
        self.set(name, &json_text(text.as_bytes()));
    }

    pub fn to_json(&self) -> String {
        let members: Vec<String> = self.0.iter().map(|(name, json)| format!("{}:{json}", json_text(name.as_bytes()))).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// Bytes that are not UTF-8 become U+FFFD.
pub fn json_text(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if (control as u32) < 0x20 => {
                let _ = write!(text, "\\u{:04x}", control as u32);
            }
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

pub fn json_map(map: &BTreeMap<String, String>) -> String {
    let members: Vec<String> =
        map.iter().map(|(key, value)| format!("{}:{}", json_text(key.as_bytes()), json_text(value.as_bytes()))).collect();
    format!("{{{}}}", members.join(","))
}

pub fn json_list(items: impl IntoIterator<Item = String>) -> String {
    let members: Vec<String> = items.into_iter().map(|item| json_text(item.as_bytes())).collect();
    format!("[{}]", members.join(","))
}

/// How a child ended: `{"error":…}` when it could not be started.
pub fn json_output(output: io::Result<Output>) -> String {
    match output {
        Ok(output) => format!(
            r#"{{"code":{},"signal":{},"stdout":{},"stderr":{}}}"#,
            output.status.code().unwrap_or(-1),
            output.status.signal().unwrap_or(0),
            json_text(&output.stdout),
            json_text(&output.stderr)
        ),
        Err(error) => format!(r#"{{"error":{}}}"#, json_text(crate::system::errno_name(&error).as_bytes())),
    }
}
