//! The list of images as docker has it: its columns, its fields, its units.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rootfs_cache::reference::RegistryReference;
use rootfs_cache::store::ImageSummary;
use serde::Serialize;

use crate::config::{Digests, DockerListing, DockerShow, Length};
use crate::mode::docker::template::{self, TemplateError};

/// What stands where there is nothing.
const NONE: &str = "<none>";

/// One image with one of its names, in the words of docker's `--format`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageRow {
    /// Always `N/A`, as with docker.
    pub containers: &'static str,
    /// When it was made, in UTC.
    pub created_at: String,
    /// How long ago that is.
    pub created_since: String,
    /// Digest of the platform manifest.
    pub digest: String,
    /// The image's ID, in the length asked for.
    #[serde(rename = "ID")]
    pub id: String,
    /// The repository in docker's short spelling.
    pub repository: String,
    /// Always `N/A`, as with docker.
    pub shared_size: &'static str,
    /// Of what its layers unpack to.
    pub size: String,
    /// The tag.
    pub tag: String,
    /// Always `N/A`, as with docker.
    pub unique_size: &'static str,
    /// As `size`.
    pub virtual_size: String,
}

/// The rows of these images, newest first.
pub(super) fn rows(images: &[ImageSummary], keep: &dyn Fn(&Named) -> bool, length: Length, now: DateTime<Utc>) -> Vec<ImageRow> {
    let mut images: Vec<(Option<DateTime<Utc>>, &ImageSummary)> = images.iter().map(|image| (created(image), image)).collect();
    images.sort_by_key(|(created, image)| (std::cmp::Reverse(*created), image.id));
    let of_image = |(created, image): &(Option<DateTime<Utc>>, &ImageSummary)| {
        let names = Named::all(image);
        let kept: Vec<ImageRow> =
            names.iter().filter(|named| keep(named)).map(|named| row(image, named, *created, (length, now))).collect();
        kept
    };
    images.iter().flat_map(of_image).collect()
}

fn row(image: &ImageSummary, named: &Named, created: Option<DateTime<Utc>>, (length, now): (Length, DateTime<Utc>)) -> ImageRow {
    let size = human_size(image.bytes);
    let na = "N/A";
    ImageRow {
        containers: na,
        created_at: created.map_or_else(|| "N/A".to_owned(), |created| created.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()),
        created_since: created
            .map_or_else(|| "N/A".to_owned(), |created| format!("{} ago", human_duration((now - created).to_std().unwrap_or_default()))),
        digest: image.manifest.to_string(),
        id: match length {
            Length::Truncated => image.id.hex()[..12].to_owned(),
            Length::Full => image.id.to_string(),
        },
        repository: named.repository.clone(),
        shared_size: na,
        virtual_size: size.clone(),
        size,
        tag: named.tag.clone(),
        unique_size: na,
    }
}

/// When a config says it was made. Docker shows the year 1 as it is; nobody wants that.
fn created(image: &ImageSummary) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(image.created.as_deref()?).ok().map(|created| created.with_timezone(&Utc))
}

/// A name of an image in docker's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) repository: String,
    pub(super) tag: String,
}

impl Named {
    fn all(image: &ImageSummary) -> Vec<Self> {
        let mut names: Vec<Self> = image.names.iter().map(|(name, _)| Self::of(name)).collect();
        names.dedup();
        if names.is_empty() { vec![Self::nameless()] } else { names }
    }

    /// Of an image without a name.
    pub(super) fn nameless() -> Self {
        Self { repository: NONE.to_owned(), tag: NONE.to_owned() }
    }

    pub(super) fn of(name: &str) -> Self {
        match name.parse::<RegistryReference>() {
            Ok(reference) => {
                let tag = reference.tag().unwrap_or(NONE).to_owned();
                let familiar = reference.familiar();
                let repository = familiar.split('@').next().unwrap_or_default();
                let repository = repository.strip_suffix(&format!(":{tag}")).unwrap_or(repository).to_owned();
                Self { repository, tag }
            }
            // A layout's or an archive's.
            Err(_) => Self { repository: name.to_owned(), tag: NONE.to_owned() },
        }
    }

    pub(super) fn is_dangling(&self) -> bool {
        self.repository == NONE
    }

    /// Whether docker's pattern fits the name, with its tag or without.
    pub(super) fn matches(&self, pattern: &str) -> bool {
        super::glob::matches(pattern, &self.repository) || super::glob::matches(pattern, &format!("{}:{}", self.repository, self.tag))
    }
}

/// The list as docker prints it.
pub(super) fn text(rows: &[ImageRow], listing: &DockerListing) -> Result<String, TemplateError> {
    match &listing.show {
        DockerShow::Ids => {
            // An image of several names is one image.
            let mut ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
            ids.dedup();
            Ok(ids.into_iter().map(|id| format!("{id}\n")).collect())
        }
        DockerShow::Table => {
            let digest = if listing.digests == Digests::Show { "\t{{.Digest}}" } else { "" };
            by_template(
                rows,
                &format!("table {{{{.Repository}}}}\t{{{{.Tag}}}}{digest}\t{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"),
            )
        }
        DockerShow::Format(template) => by_template(rows, template),
    }
}

fn by_template(rows: &[ImageRow], template: &str) -> Result<String, TemplateError> {
    template::lines(template, &HEADINGS, rows.iter().map(|row| serde_json::to_value(row).unwrap_or_default()))
}

const HEADINGS: [(&str, &str); 11] = [
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

/// Decimal units, three digits.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    // As C's `%.3g`, which writes a rounded 1000 by its exponent.
    let text = match size {
        size if size >= 999.5 => "1e+03".to_owned(),
        size => {
            let decimals = if size >= 99.95 {
                0
            } else if size >= 9.995 {
                1
            } else {
                2
            };
            let text = format!("{size:.decimals$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
    };
    format!("{text}{}", UNITS[unit])
}

/// A duration in docker's words.
pub fn human_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rootfs_cache::digest::Digest;

    use super::*;

    fn image(seed: &str, created: Option<&str>, names: &[&str]) -> ImageSummary {
        ImageSummary {
            manifest: Digest::of(seed.as_bytes()),
            id: Digest::of(format!("id {seed}").as_bytes()),
            created: created.map(str::to_owned),
            names: names.iter().map(|&name| (name.to_owned(), "linux/amd64".to_owned())).collect(),
            layers: 2,
            bytes: 1_239_000,
            last_used: SystemTime::UNIX_EPOCH,
            in_use: false,
        }
    }

    fn listed(show: DockerShow, keep: &dyn Fn(&Named) -> bool) -> Result<String, TemplateError> {
        let images = [
            image("a", Some("2026-01-01T00:00:00.5Z"), &["docker.io/library/old:latest"]),
            image("b", Some("2026-02-27T12:00:00+01:00"), &["docker.io/lambci/lambda:build-nodejs12.x", "host:5000/a/b:c"]),
            image("c", None, &[]),
        ];
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let rows = rows(&images, keep, Length::Truncated, now);
        text(&rows, &DockerListing { show, digests: Digests::Hide, length: Length::Truncated })
    }

    #[test]
    fn tables_as_docker_aligns_them() {
        let text = listed(DockerShow::Table, &|_| true).unwrap();
        let ids = ["b", "a", "c"].map(|seed| Digest::of(format!("id {seed}").as_bytes()).hex()[..12].to_owned());
        let wanted = [
            "REPOSITORY      TAG                IMAGE ID       CREATED        SIZE".to_owned(),
            format!("lambci/lambda   build-nodejs12.x   {}   37 hours ago   1.24MB", ids[0]),
            format!("host:5000/a/b   c                  {}   37 hours ago   1.24MB", ids[0]),
            format!("old             latest             {}   8 weeks ago    1.24MB", ids[1]),
            format!("<none>          <none>             {}   N/A            1.24MB", ids[2]),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn templates_ids_and_filters() {
        let by = |template: &str| listed(DockerShow::Format(template.to_owned()), &|named: &Named| named.matches("old"));
        assert_eq!(by("{{.Repository}}:{{ .Tag }}\\t{{json .Size}}").unwrap(), "old:latest\t\"1.24MB\"\n");
        assert!(
            by("json")
                .unwrap()
                .starts_with(r#"{"Containers":"N/A","CreatedAt":"2026-01-01 00:00:00 +0000 UTC","CreatedSince":"8 weeks ago""#)
        );
        assert_eq!(by("table {{.Tag}}\t{{.Size}}").unwrap(), "TAG       SIZE\nlatest    1.24MB\n");
        assert!(by("{{.Nope}}").unwrap_err().to_string().contains(".Nope"));
        assert!(by("{{.ID").is_err());
        assert_eq!(by(r#"{{slice .Tag 0 3}} {{printf "%-5s|" .Tag}} {{if eq .Tag "latest"}}x{{end}}"#).unwrap(), "lat latest| x\n");
        assert_eq!(listed(DockerShow::Ids, &|_| true).unwrap().lines().count(), 3);
        assert_eq!(listed(DockerShow::Ids, &Named::is_dangling).unwrap().lines().count(), 1);
    }

    #[test]
    fn units() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_500, "1.5kB"),
            (72_900_000, "72.9MB"),
            (613_000_000, "613MB"),
            (999_600_000, "1e+03MB"),
            (1_100_000_000, "1.1GB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }
}
