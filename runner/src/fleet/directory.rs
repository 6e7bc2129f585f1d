//! Which function a name means.

use std::collections::HashMap;

use super::Names;
use crate::function::Function;
use crate::lambda::{InvokeRefusal, InvokeTarget};

/// Where functions that do not exist are said not to be, when there is no function at all to tell a region from.
const NOWHERE: (&str, &str) = ("us-east-1", "123456789012");

/// The functions by name.
#[derive(Debug)]
pub(super) struct Directory {
    names: Names,
    by_name: HashMap<String, usize>,
    count: usize,
    here: (String, String),
}

impl Directory {
    /// Of several functions with the same name the first one is found.
    pub(super) fn new<'a>(names: Names, functions: impl IntoIterator<Item = &'a Function>) -> Self {
        let mut directory = Self { names, by_name: HashMap::new(), count: 0, here: (NOWHERE.0.to_owned(), NOWHERE.1.to_owned()) };
        for function in functions {
            if directory.count == 0 {
                directory.here = (function.region.clone(), function.account_id.clone());
            }
            directory.by_name.entry(function.name.clone()).or_insert(directory.count);
            directory.count += 1;
        }
        directory
    }

    /// The function of this very name, by its place in the list.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The function whose event it is that was queued under this name, by a server like this one.
    pub(super) fn owner(&self, name: &str) -> Option<usize> {
        self.named(name).or((self.names == Names::Any && self.count == 1).then_some(0))
    }

    /// The function that is meant, by its place in the list. `function` gives one of that list.
    pub(super) fn find<'a>(&self, target: &InvokeTarget, function: impl Fn(usize) -> &'a Function) -> Result<usize, InvokeRefusal> {
        let found = self.owner(&target.name);
        if self.names == Names::Any {
            return found.ok_or_else(|| self.not_found(target));
        }
        let here = found.map_or(self.here.0.as_str(), |index| function(index).region.as_str());
        if let Some(asked) = target.region.as_deref().filter(|asked| *asked != here) {
            return Err(InvokeRefusal::OtherRegion { asked: asked.to_owned(), here: here.to_owned() });
        }
        // There is one version of each function here, and every alias leads to it.
        found.ok_or_else(|| self.not_found(target))
    }

    fn not_found(&self, target: &InvokeTarget) -> InvokeRefusal {
        let region = target.region.as_deref().unwrap_or(&self.here.0);
        let account = target.account_id.as_deref().unwrap_or(&self.here.1);
        let qualifier = target.qualifier.as_deref().unwrap_or("$LATEST");
        InvokeRefusal::NotFound { arn: format!("arn:aws:lambda:{region}:{account}:function:{}:{qualifier}", target.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions() -> Vec<Function> {
        let named = |name: &str, version: &str| Function { name: name.to_owned(), version: version.to_owned(), ..Function::sample("3") };
        vec![named("one", "$LATEST"), named("two", "7"), named("one", "9")]
    }

    fn target(name: &str, qualifier: Option<&str>, region: Option<&str>) -> InvokeTarget {
        InvokeTarget {
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
            region: region.map(str::to_owned),
            account_id: region.map(|_| "000000000000".to_owned()),
        }
    }

    #[test]
    fn own_names() {
        let functions = functions();
        let directory = Directory::new(Names::Own, &functions);
        let not_found = |arn: &str| Err(InvokeRefusal::NotFound { arn: format!("arn:aws:lambda:{arn}") });
        let other_region = InvokeRefusal::OtherRegion { asked: "eu-west-1".to_owned(), here: "us-east-1".to_owned() };
        for (name, qualifier, region, found) in [
            ("one", None, None, Ok(0)),
            ("one", Some("$LATEST"), Some("us-east-1"), Ok(0)),
            ("two", Some("7"), None, Ok(1)),
            ("two", Some("$LATEST"), None, Ok(1)),
            ("two", Some("8"), None, Ok(1)),
            ("one", Some("live"), None, Ok(0)),
            ("three", Some("live"), None, not_found("us-east-1:123456789012:function:three:live")),
            ("three", None, None, not_found("us-east-1:123456789012:function:three:$LATEST")),
            ("three", None, Some("us-east-1"), not_found("us-east-1:000000000000:function:three:$LATEST")),
            ("one", None, Some("eu-west-1"), Err(other_region.clone())),
            ("three", None, Some("eu-west-1"), Err(other_region)),
        ] {
            assert_eq!(
                directory.find(&target(name, qualifier, region), |index| &functions[index]),
                found,
                "{name} {qualifier:?} {region:?}"
            );
        }
    }

    #[test]
    fn any_name_leads_to_the_only_function() {
        let functions = functions();
        let only = Directory::new(Names::Any, &functions[1..2]);
        for (name, qualifier, region) in [("two", None, None), ("function", Some("live"), None), ("x", None, Some("eu-west-1"))] {
            assert_eq!(only.find(&target(name, qualifier, region), |_| &functions[1]), Ok(0));
        }
        let several = Directory::new(Names::Any, &functions);
        assert_eq!(several.find(&target("two", Some("x"), None), |index| &functions[index]), Ok(1));
        assert!(several.find(&target("x", None, None), |index| &functions[index]).is_err());
        let none = Directory::new(Names::Any, []);
        assert_eq!(
            none.find(&target("x", None, None), |index| &functions[index]),
            Err(InvokeRefusal::NotFound { arn: "arn:aws:lambda:us-east-1:123456789012:function:x:$LATEST".to_owned() })
        );
    }
}
