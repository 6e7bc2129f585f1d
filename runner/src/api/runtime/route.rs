//! The paths of the Runtime API.

use hyper::Method;

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A call of the runtime.
    Call(Call),
    /// `GET /ping`, which AWS keeps without documenting it.
    Ping,
    /// The path is known, for another method.
    MethodNotAllowed { allow: &'static str },
    /// The path is not known. Those of SnapStart's `restore` are not, outside SnapStart.
    NotFound,
}

/// A call that the lifecycle answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Next,
    Response { request_id: String },
    Error { request_id: String },
    InitError,
}

pub(super) fn of(method: &Method, path: &str) -> Route {
    let Some(path) = path.strip_prefix("/2018-06-01/") else {
        return Route::NotFound;
    };
    let segments: Vec<&str> = path.split('/').collect();
    let (route, allowed) = match segments[..] {
        ["ping"] => (Route::Ping, Method::GET),
        ["runtime", "invocation", "next"] => (Route::Call(Call::Next), Method::GET),
        ["runtime", "invocation", id, "response"] if !id.is_empty() => {
            (Route::Call(Call::Response { request_id: id.to_owned() }), Method::POST)
        }
        ["runtime", "invocation", id, "error"] if !id.is_empty() => (Route::Call(Call::Error { request_id: id.to_owned() }), Method::POST),
        ["runtime", "init", "error"] => (Route::Call(Call::InitError), Method::POST),
        _ => return Route::NotFound,
    };
    match (*method == allowed, allowed == Method::GET) {
        (true, _) => route,
        (false, true) => Route::MethodNotAllowed { allow: "GET" },
        (false, false) => Route::MethodNotAllowed { allow: "POST" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let id = || "some-id".to_owned();
        for (method, path, route) in [
            (Method::GET, "ping", Route::Ping),
            (Method::POST, "ping", Route::MethodNotAllowed { allow: "GET" }),
            (Method::GET, "runtime/invocation/next", Route::Call(Call::Next)),
            (Method::HEAD, "runtime/invocation/next", Route::MethodNotAllowed { allow: "GET" }),
            (Method::POST, "runtime/invocation/some-id/response", Route::Call(Call::Response { request_id: id() })),
            (Method::POST, "runtime/invocation/next/response", Route::Call(Call::Response { request_id: "next".to_owned() })),
            (Method::GET, "runtime/invocation/some-id/response", Route::MethodNotAllowed { allow: "POST" }),
            (Method::POST, "runtime/invocation/some-id/error", Route::Call(Call::Error { request_id: id() })),
            (Method::PUT, "runtime/invocation/some-id/error", Route::MethodNotAllowed { allow: "POST" }),
            (Method::POST, "runtime/init/error", Route::Call(Call::InitError)),
            (Method::DELETE, "runtime/init/error", Route::MethodNotAllowed { allow: "POST" }),
            (Method::GET, "runtime/restore/next", Route::NotFound),
            (Method::POST, "runtime/restore/error", Route::NotFound),
            (Method::GET, "runtime/invocation/next/", Route::NotFound),
            (Method::POST, "runtime/invocation//response", Route::NotFound),
            (Method::GET, "runtime", Route::NotFound),
            (Method::GET, "", Route::NotFound),
        ] {
            assert_eq!(of(&method, &format!("/2018-06-01/{path}")), route, "{method} {path}");
        }
        for path in ["/", "*", "/2018-06-01", "/2020-01-01/extension/register", "//2018-06-01/ping"] {
            assert_eq!(of(&Method::GET, path), Route::NotFound, "{path}");
        }
    }
}
