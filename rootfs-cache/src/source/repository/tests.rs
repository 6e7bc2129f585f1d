use super::*;
use crate::source::fake_registry::{Answer, FakeRegistry};

#[test]
fn pages() {
    for (link, wanted) in [
        (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2")),
        (r#"<https://r.example/v2/a/tags/list?last=b>; rel=next"#, Some("https://r.example/v2/a/tags/list?last=b")),
        (r#"</x>; rel="prev""#, None),
        ("/x; rel=next", None),
        ("", None),
    ] {
        assert_eq!(next_page(link), wanted, "{link}");
    }
}

/// The path is younger than many registries, which have various words for that they do not know it.
#[tokio::test]
async fn registries_without_lists_of_referrers() {
    type Make = fn() -> Answer;
    let answers: [(Make, bool); 7] = [
        (|| Answer::status(400), true),
        (|| Answer::status(404), true),
        (|| Answer::status(405), true),
        (|| Answer::status(406), true),
        (|| Answer::ok("<html>").with("content-type", "text/html; charset=utf-8"), true),
        (|| Answer::status(403), false),
        (|| Answer::ok("{").with("content-type", "application/vnd.oci.image.index.v1+json"), false),
    ];
    for (number, (answer, is_none)) in answers.into_iter().enumerate() {
        let registry = FakeRegistry::start(move |asked, _| asked.path.contains("/referrers/").then(answer)).await;
        let reference: RegistryReference = format!("{}/a/b", registry.host()).parse().unwrap();
        let repository = Repository::open(&reference, &RegistryAccess::default(), Purpose::Pull, &|_| ()).unwrap();
        let found = repository.referrers(&Digest::of(b"")).await;
        assert_eq!(matches!(found, Ok(None)), is_none, "{number}: {found:?}");
        assert!(is_none || found.is_err(), "{number}");
    }
}
