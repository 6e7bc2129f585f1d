//! The paths of the APIs.

use hyper::Method;

use crate::lambda::TelemetryApi;

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A call that the lifecycle answers.
    Endpoint(Endpoint),
    /// `GET /2026-01-15/metadata/execution-environment`.
    Metadata,
    /// `GET /ping`, which AWS keeps without documenting it.
    Ping,
    /// The path is known, for another method.
    MethodNotAllowed { allow: &'static str },
    /// The path is not known. Those of SnapStart's `restore` are not, outside SnapStart.
    NotFound,
}

/// A call that the lifecycle answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Next,
    Response { request_id: String },
    Error { request_id: String },
    InitError,
    Extension(ExtensionCall),
}

/// A call of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtensionCall {
    Register,
    Next,
    InitError,
    ExitError,
    Subscribe(TelemetryApi),
}

pub(super) fn of(method: &Method, path: &str) -> Route {
    let extension = |call| Route::Endpoint(Endpoint::Extension(call));
    let (route, allowed) = match path {
        "/2020-01-01/extension/register" => (extension(ExtensionCall::Register), Method::POST),
        "/2020-01-01/extension/event/next" => (extension(ExtensionCall::Next), Method::GET),
        "/2020-01-01/extension/init/error" => (extension(ExtensionCall::InitError), Method::POST),
        "/2020-01-01/extension/exit/error" => (extension(ExtensionCall::ExitError), Method::POST),
        "/2022-07-01/telemetry" => (extension(ExtensionCall::Subscribe(TelemetryApi::Telemetry)), Method::PUT),
        "/2020-08-15/logs" => (extension(ExtensionCall::Subscribe(TelemetryApi::Logs)), Method::PUT),
        "/2026-01-15/metadata/execution-environment" => (Route::Metadata, Method::GET),
        _ => return of_runtime(method, path),
    };
    if *method == allowed { route } else { not_allowed(&allowed) }
}

fn of_runtime(method: &Method, path: &str) -> Route {
    let Some(path) = path.strip_prefix("/2018-06-01/") else {
        return Route::NotFound;
    };
    let segments: Vec<&str> = path.split('/').collect();
    let (route, allowed) = match segments[..] {
        ["ping"] => (Route::Ping, Method::GET),
        ["runtime", "invocation", "next"] => (Route::Endpoint(Endpoint::Next), Method::GET),
        ["runtime", "invocation", id, "response"] if !id.is_empty() => {
            (Route::Endpoint(Endpoint::Response { request_id: id.to_owned() }), Method::POST)
        }
        ["runtime", "invocation", id, "error"] if !id.is_empty() => {
            (Route::Endpoint(Endpoint::Error { request_id: id.to_owned() }), Method::POST)
        }
        ["runtime", "init", "error"] => (Route::Endpoint(Endpoint::InitError), Method::POST),
        _ => return Route::NotFound,
    };
    if *method == allowed { route } else { not_allowed(&allowed) }
}

fn not_allowed(allowed: &Method) -> Route {
    Route::MethodNotAllowed {
        allow: match *allowed {
            Method::GET => "GET",
            Method::PUT => "PUT",
            _ => "POST",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_extensions() {
        let extension = |call| Route::Endpoint(Endpoint::Extension(call));
        for (method, path, route) in [
            (Method::POST, "/2020-01-01/extension/register", extension(ExtensionCall::Register)),
            (Method::GET, "/2020-01-01/extension/register", Route::MethodNotAllowed { allow: "POST" }),
            (Method::GET, "/2020-01-01/extension/event/next", extension(ExtensionCall::Next)),
            (Method::POST, "/2020-01-01/extension/event/next", Route::MethodNotAllowed { allow: "GET" }),
            (Method::POST, "/2020-01-01/extension/init/error", extension(ExtensionCall::InitError)),
            (Method::POST, "/2020-01-01/extension/exit/error", extension(ExtensionCall::ExitError)),
            (Method::PUT, "/2022-07-01/telemetry", extension(ExtensionCall::Subscribe(TelemetryApi::Telemetry))),
            (Method::PUT, "/2020-08-15/logs", extension(ExtensionCall::Subscribe(TelemetryApi::Logs))),
            (Method::POST, "/2020-08-15/logs", Route::MethodNotAllowed { allow: "PUT" }),
            (Method::GET, "/2026-01-15/metadata/execution-environment", Route::Metadata),
            (Method::HEAD, "/2026-01-15/metadata/execution-environment", Route::MethodNotAllowed { allow: "GET" }),
            (Method::GET, "/2021-04-23/credentials", Route::NotFound),
        ] {
            assert_eq!(of(&method, path), route, "{method} {path}");
        }
    }

    #[test]
    fn paths_and_methods() {
        let id = || "some-id".to_owned();
        for (method, path, route) in [
            (Method::GET, "ping", Route::Ping),
            (Method::POST, "ping", Route::MethodNotAllowed { allow: "GET" }),
            (Method::GET, "runtime/invocation/next", Route::Endpoint(Endpoint::Next)),
            (Method::HEAD, "runtime/invocation/next", Route::MethodNotAllowed { allow: "GET" }),
            (Method::POST, "runtime/invocation/some-id/response", Route::Endpoint(Endpoint::Response { request_id: id() })),
            (Method::POST, "runtime/invocation/next/response", Route::Endpoint(Endpoint::Response { request_id: "next".to_owned() })),
            (Method::GET, "runtime/invocation/some-id/response", Route::MethodNotAllowed { allow: "POST" }),
            (Method::POST, "runtime/invocation/some-id/error", Route::Endpoint(Endpoint::Error { request_id: id() })),
            (Method::PUT, "runtime/invocation/some-id/error", Route::MethodNotAllowed { allow: "POST" }),
            (Method::POST, "runtime/init/error", Route::Endpoint(Endpoint::InitError)),
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
        for path in
            ["/", "*", "/2018-06-01", "/2020-01-01/extension", "/2020-01-01/extension/event/next/", "/2022-07-01/logs", "//2018-06-01/ping"]
        {
            assert_eq!(of(&Method::GET, path), Route::NotFound, "{path}");
        }
    }
}
