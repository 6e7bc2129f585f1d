//! Who files belong to that `--chown` names, by the image's own databases.

use std::path::Path;

use super::{CopyError, Tree, Wrong, read_error};

/// Owner and group of `USER[:GROUP]`, names or numbers. Without a group it has the owner's number, as docker has it.
pub fn owner(tree: &Tree, text: &str) -> Result<(u32, u32), CopyError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let uid = number(tree, user, "etc/passwd", "user")?;
    let gid = match group.filter(|group| !group.is_empty()) {
        Some(group) => number(tree, group, "etc/group", "group")?,
        None => uid,
    };
    Ok((uid, gid))
}

fn number(tree: &Tree, name: &str, database: &str, what: &str) -> Result<u32, CopyError> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number);
    }
    let path = Path::new(database);
    let text = tree.read(path).map_err(read_error(path))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(|line| line.split(':'));
    let found = lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)).flatten()?.parse().ok());
    let hint = || format!("the image's `/{database}` lists those there are; a number is taken as it is");
    found.ok_or_else(|| Wrong::hint(format!("there is no {what} `{name}` in the image"), hint()).into())
}
