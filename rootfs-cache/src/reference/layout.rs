//! Images in files of this machine: OCI layout folders, and archives.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ParseReferenceError;

/// In what the image lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayoutForm {
    /// An OCI layout folder.
    Folder,
    /// A tar of an OCI layout.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
}

const FORMS: [LayoutForm; 3] = [LayoutForm::Folder, LayoutForm::OciArchive, LayoutForm::DockerArchive];

impl LayoutForm {
    fn prefix(self) -> &'static str {
        match self {
            Self::Folder => "oci:",
            Self::OciArchive => "oci-archive:",
            Self::DockerArchive => "docker-archive:",
        }
    }

    fn written(self) -> &'static str {
        match self {
            Self::Folder => "oci:DIR[:REF]",
            Self::OciArchive => "oci-archive:FILE[:REF]",
            Self::DockerArchive => "docker-archive:FILE[:REF]",
        }
    }
}

/// An image in an OCI layout folder or in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayoutReference {
    form: LayoutForm,
    path: PathBuf,
    name: Option<String>,
}

impl LayoutReference {
    /// In what the image lies.
    pub fn form(&self) -> LayoutForm {
        self.form
    }

    /// The layout's folder, or the archive, as it was written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image's `org.opencontainers.image.ref.name` in `index.json`, or one of its `RepoTags`; without one there must be one image.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The same image by another path.
    #[must_use]
    pub fn at(&self, path: PathBuf) -> Self {
        Self { path, ..self.clone() }
    }

    /// The path ends at the first colon, for names such as `lambci/lambda:nodejs12.x` hold colons themselves. `None` if the text is no such reference.
    pub(super) fn parse(text: &str) -> Option<Result<Self, ParseReferenceError>> {
        FORMS.into_iter().find_map(|form| text.strip_prefix(form.prefix()).map(|rest| Self::parse_as(form, text, rest)))
    }

    fn parse_as(form: LayoutForm, text: &str, rest: &str) -> Result<Self, ParseReferenceError> {
        let missing = |missing| ParseReferenceError::Layout { text: text.to_owned(), form: form.written(), missing };
        let (path, name) = match rest.split_once(':') {
            None => (rest, None),
            Some((_, "")) => return Err(missing("REF after the colon")),
            Some((path, name)) => (path, Some(name.to_owned())),
        };
        if path.is_empty() || path.contains('\0') {
            return Err(missing(if form == LayoutForm::Folder { "the directory" } else { "the file" }));
        }
        Ok(Self { form, path: PathBuf::from(path), name })
    }
}

impl fmt::Display for LayoutReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.form.prefix(), self.path.display())?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}
