use super::*;

#[test]
fn delegations_have_names_that_stay_in_their_folder() {
    for (name, wanted) in [
        ("targets/releases", true),
        ("targets/a.b/c-d_1", true),
        ("targets", false),
        ("targets/", false),
        ("targets//a", false),
        ("targets/..", false),
        ("targets/../root", false),
        ("targets/a/", false),
        ("targets/A", false),
        ("targets/a%2f", false),
        ("root", false),
        ("", false),
    ] {
        assert_eq!(is_delegation(name), wanted, "{name}");
    }
}

#[test]
fn envelopes_are_read_strictly() {
    let good = r#"{"signed":{"_type":"Targets","version":1,"expires":"2030-01-02T03:04:05.123456789+01:00","targets":{},"delegations":{"keys":{},"roles":[]}},"signatures":[]}"#;
    let read = Signed::read("targets", good.as_bytes()).unwrap();
    assert_eq!((read.version, read.expires.to_rfc3339()), (1, "2030-01-02T02:04:05.123456789+00:00".to_owned()));
    assert!(read.targets().unwrap().targets.is_empty());
    for (from, to, wanted) in [
        ("Targets", "targets", "`targets` stands there as its kind"),
        ("Targets", "Root", "`Root` stands there as its kind"),
        ("\"version\":1", "\"version\":0", "its version is 0"),
        ("\"version\":1", "\"version\":-1", "invalid value"),
        ("\"version\":1", "\"version\":1.5", "no integer"),
        ("2030-01-02", "soon", "malformed"),
        ("\"signatures\":[]", "\"signed\":{}", "malformed"),
        ("{\"signed\"", "[{\"signed\"", "malformed"),
    ] {
        let error = Signed::read("targets", good.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{to}: {error}");
    }
}
