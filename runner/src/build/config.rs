//! What becomes of an image's config on the way through a Dockerfile, as docker writes it. Pure.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use rootfs_cache::digest::Digest;
use rootfs_cache::reference::Platform;
use serde_json::{Map, Value, json};

use super::dockerfile::{CommandForm, Health, Wrong};

/// What docker sets where an image has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a shell text is given to where nothing else is said.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// An image's config, being made.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSpec {
    /// The whole document but for `config`, `history`, `rootfs` and `created`.
    document: Map<String, Value>,
    /// What a container is made with.
    config: Map<String, Value>,
    history: Vec<Value>,
    diff_ids: Vec<Digest>,
    /// Whether `CMD` was said in this file: `ENTRYPOINT` drops an inherited one.
    has_own_cmd: bool,
    created: String,
}

impl ImageSpec {
    /// Of nothing at all.
    pub fn scratch(platform: &Platform, created: SystemTime) -> Self {
        let mut document = Map::new();
        document.insert("architecture".to_owned(), json!(platform.architecture.as_str()));
        document.insert("os".to_owned(), json!("linux"));
        if let Some(variant) = &platform.variant {
            document.insert("variant".to_owned(), json!(variant));
        }
        let mut spec = Self {
            document,
            config: Map::new(),
            history: Vec::new(),
            diff_ids: Vec::new(),
            has_own_cmd: false,
            created: timestamp(created),
        };
        spec.set_default_path();
        spec
    }

    /// Of an image, from its config's bytes.
    pub fn of_image(bytes: &[u8], diff_ids: &[Digest], created: SystemTime) -> Result<Self, serde_json::Error> {
        let mut document: Map<String, Value> = serde_json::from_slice(bytes)?;
        let take = |document: &mut Map<String, Value>, name: &str| document.remove(name);
        let config = match take(&mut document, "config") {
            Some(Value::Object(config)) => config,
            _ => Map::new(),
        };
        let history = match take(&mut document, "history") {
            Some(Value::Array(history)) => history,
            _ => Vec::new(),
        };
        // What the parent's making left, which is not ours.
        document.retain(|name, _| matches!(name.as_str(), "architecture" | "os" | "variant" | "os.version" | "os.features" | "author"));
        let created = timestamp(created);
        let mut spec = Self { document, config, history, diff_ids: diff_ids.to_vec(), has_own_cmd: false, created };
        for of_container in
            ["Hostname", "Domainname", "Image", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"]
        {
            spec.config.remove(of_container);
        }
        spec.set_default_path();
        Ok(spec)
    }

    /// A stage that starts from this one: what was said of `CMD` there is inherited here.
    pub fn continued(&self) -> Self {
        Self { has_own_cmd: false, ..self.clone() }
    }

    fn set_default_path(&mut self) {
        if self.variable("PATH").is_none() {
            self.set_variable("PATH", DEFAULT_PATH);
        }
    }

    /// The variables, in their order.
    pub fn variables(&self) -> Vec<(String, String)> {
        let pairs = self.config.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// What a variable holds.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables().into_iter().rev().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// `ENV`.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let mut variables = self.variables();
        match variables.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => value.clone_into(old),
            None => variables.push((name.to_owned(), value.to_owned())),
        }
        let pairs: Vec<String> = variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.set("Env", json!(pairs));
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.config.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn set(&mut self, name: &str, value: Value) {
        self.config.insert(name.to_owned(), value);
    }

    /// The working directory: absolute.
    pub fn working_dir(&self) -> &str {
        self.text("WorkingDir").unwrap_or("/")
    }

    /// Sets the working directory; a relative one is below the one before. Gives it.
    pub fn set_working_dir(&mut self, path: &str) -> String {
        let joined = clean(&if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.working_dir()) });
        self.set("WorkingDir", json!(joined));
        joined
    }

    /// Who runs commands, as it was written.
    pub fn user(&self) -> Option<&str> {
        self.text("User")
    }

    /// `USER`.
    pub fn set_user(&mut self, user: &str) {
        self.set("User", json!(user));
    }

    /// What shell texts are given to.
    pub fn shell(&self) -> Vec<String> {
        let words = self
            .config
            .get("Shell")
            .and_then(Value::as_array)
            .map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        words.filter(|words: &Vec<String>| !words.is_empty()).unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec())
    }

    /// `SHELL`.
    pub fn set_shell(&mut self, words: &[String]) {
        self.set("Shell", json!(words));
    }

    /// The words that a command is.
    pub fn words(&self, command: &CommandForm) -> Vec<String> {
        match command {
            CommandForm::Exec(words) => words.clone(),
            CommandForm::Shell(text) => self.shell().into_iter().chain([text.clone()]).collect(),
        }
    }

    /// `CMD`.
    pub fn set_cmd(&mut self, command: &CommandForm) {
        self.set("Cmd", json!(self.words(command)));
        self.has_own_cmd = true;
    }

    /// `ENTRYPOINT`, none if it is empty; arguments that the parent had for its own go.
    pub fn set_entrypoint(&mut self, command: &CommandForm) {
        match self.words(command) {
            words if words.is_empty() => drop(self.config.remove("Entrypoint")),
            words => self.set("Entrypoint", json!(words)),
        }
        if !self.has_own_cmd {
            self.config.remove("Cmd");
        }
    }

    /// `LABEL`.
    pub fn set_label(&mut self, name: &str, value: &str) {
        self.entry("Labels").insert(name.to_owned(), json!(value));
    }

    /// `EXPOSE`: a port or a range of them, with `/tcp` where nothing else is said.
    pub fn expose(&mut self, port: &str) -> Result<(), Wrong> {
        let (ports, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.parse::<u16>().map_err(|_| Wrong::new(format!("`EXPOSE {port}`: `{text}` is no port")));
        let protocol = protocol.to_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(Wrong::new(format!("`EXPOSE {port}`: `{protocol}` is neither `tcp` nor `udp`")));
        }
        for port in number(first)?..=number(last)? {
            self.entry("ExposedPorts").insert(format!("{port}/{protocol}"), json!({}));
        }
        Ok(())
    }

    /// `VOLUME`.
    pub fn add_volume(&mut self, path: &str) {
        self.entry("Volumes").insert(path.to_owned(), json!({}));
    }

    /// `STOPSIGNAL`.
    pub fn set_stop_signal(&mut self, signal: &str) {
        self.set("StopSignal", json!(signal));
    }

    /// `HEALTHCHECK`.
    pub fn set_health(&mut self, health: &Health) -> Result<(), Wrong> {
        let check = match health {
            Health::None => json!({ "Test": ["NONE"] }),
            Health::Check(options, command) => {
                let test: Vec<String> = match command {
                    CommandForm::Exec(words) => ["CMD".to_owned()].into_iter().chain(words.iter().cloned()).collect(),
                    CommandForm::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                };
                let mut check = Map::from_iter([("Test".to_owned(), json!(test))]);
                for (name, value) in options {
                    let (name, value) = health_option(name, value)?;
                    check.insert(name.to_owned(), value);
                }
                Value::Object(check)
            }
        };
        self.set("Healthcheck", check);
        Ok(())
    }

    /// `MAINTAINER`.
    pub fn set_author(&mut self, author: &str) {
        self.document.insert("author".to_owned(), json!(author));
    }

    /// `ONBUILD`.
    pub fn add_trigger(&mut self, instruction: &str) {
        let triggers = self.config.entry("OnBuild").or_insert_with(|| json!([]));
        if let Value::Array(triggers) = triggers {
            triggers.push(json!(instruction));
        }
    }

    /// The instructions that the image left for whoever builds upon it; they are gone from here.
    pub fn take_triggers(&mut self) -> Vec<String> {
        let Some(Value::Array(triggers)) = self.config.remove("OnBuild") else { return Vec::new() };
        triggers.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn entry(&mut self, name: &str) -> &mut Map<String, Value> {
        let entry = self.config.entry(name).or_insert_with(|| json!({}));
        if !entry.is_object() {
            *entry = json!({});
        }
        entry.as_object_mut().expect("it was made one above")
    }

    /// A step is done; what it wrote is the layer, if it wrote one.
    pub fn done(&mut self, created_by: &str, layer: Option<&Digest>) {
        let mut entry = Map::from_iter([("created".to_owned(), json!(self.created)), ("created_by".to_owned(), json!(created_by))]);
        match layer {
            Some(layer) => self.diff_ids.push(*layer),
            None => {
                entry.insert("empty_layer".to_owned(), json!(true));
            }
        }
        self.history.push(Value::Object(entry));
    }

    /// Digests of its layers' tars, bottom first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// The config's bytes, the same for the same content.
    pub fn to_json(&self) -> Vec<u8> {
        let mut document = self.document.clone();
        let diff_ids: Vec<String> = self.diff_ids.iter().map(ToString::to_string).collect();
        document.insert("config".to_owned(), Value::Object(self.config.clone()));
        document.insert("created".to_owned(), json!(self.created));
        document.insert("history".to_owned(), Value::Array(self.history.clone()));
        document.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
        Value::Object(document).to_string().into_bytes()
    }
}

fn health_option(name: &str, value: &str) -> Result<(&'static str, Value), Wrong> {
    let wrong = || Wrong::hint(format!("`--{name}={value}` is not a duration"), "such as `30s`, `1m30s` or `500ms`");
    let duration = || duration(value).map(|duration| json!(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))).ok_or_else(wrong);
    Ok(match name {
        "interval" => ("Interval", duration()?),
        "timeout" => ("Timeout", duration()?),
        "start-period" => ("StartPeriod", duration()?),
        "start-interval" => ("StartInterval", duration()?),
        _ => ("Retries", json!(value.parse::<u32>().map_err(|_| Wrong::new(format!("`--{name}={value}` is no number")))?)),
    })
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// An absolute path without `.`, `..` and doubled slashes.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn timestamp(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests;
