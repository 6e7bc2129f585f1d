use super::*;

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
