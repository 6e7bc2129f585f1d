//! The paths of the Invoke API.

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

use crate::lambda::AnswerForm;

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// A function is to be invoked.
    Invoke { name: Cow<'a, str>, action: Action },
    /// `GET /2018-06-01/ping`: whether somebody is there.
    Ping,
    /// A browser asks what it may send.
    Preflight,
    /// The path is known, for another method.
    MethodNotAllowed { allow: &'static str },
    /// A path that nobody has. As in docker-lambda it is not "not found": every path is known, if only for OPTIONS.
    Unknown,
    /// A path below `/2018-06-01` that nobody has; there docker-lambda looked closer.
    NotFound,
}

/// The calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Invoke and InvokeWithResponseStream.
    Invoke(AnswerForm),
    /// InvokeAsync, which is no more than an Invoke of type Event.
    Async,
}

pub(super) fn of<'a>(method: &Method, path: &'a str) -> Route<'a> {
    if method == Method::OPTIONS {
        return Route::Preflight;
    }
    // One more than the longest path has.
    let segments: Vec<&str> = path.split('/').skip(1).take(6).collect();
    let (route, allowed, allow) = match segments[..] {
        ["2018-06-01", "ping"] => (Route::Ping, Method::GET, "GET"),
        ["2018-06-01", ..] if method == Method::GET => return Route::NotFound,
        ["2015-03-31", "functions", name, "invocations"] if !name.is_empty() => {
            (invoke(name, Action::Invoke(AnswerForm::Buffered)), Method::POST, "POST")
        }
        ["2021-11-15", "functions", name, "response-streaming-invocations"] if !name.is_empty() => {
            (invoke(name, Action::Invoke(AnswerForm::Streamed)), Method::POST, "POST")
        }
        ["2014-11-13", "functions", name, "invoke-async"] | ["2014-11-13", "functions", name, "invoke-async", ""] if !name.is_empty() => {
            (invoke(name, Action::Async), Method::POST, "POST")
        }
        _ => return Route::Unknown,
    };
    if method == allowed { route } else { Route::MethodNotAllowed { allow } }
}

/// SDKs encode the colons of an ARN. What is no UTF-8 stays visible as such, and is no name.
fn invoke(name: &str, action: Action) -> Route<'_> {
    Route::Invoke { name: percent_decode_str(name).decode_utf8_lossy(), action }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path() {
        let invoke = |name: &'static str, action| Route::Invoke { name: name.into(), action };
        let buffered = |name| invoke(name, Action::Invoke(AnswerForm::Buffered));
        for (method, path, route) in [
            (Method::POST, "/2015-03-31/functions/fn/invocations", buffered("fn")),
            (Method::POST, "/2015-03-31/functions/fn%3Alive/invocations", buffered("fn:live")),
            (Method::POST, "/2015-03-31/functions/fn:%24LATEST/invocations", buffered("fn:$LATEST")),
            (Method::POST, "/2015-03-31/functions/a%2Fb%zz%/invocations", buffered("a/b%zz%")),
            (Method::POST, "/2015-03-31/functions/%ff/invocations", buffered("\u{fffd}")),
            (Method::POST, "/2021-11-15/functions/fn/response-streaming-invocations", invoke("fn", Action::Invoke(AnswerForm::Streamed))),
            (Method::POST, "/2014-11-13/functions/fn/invoke-async/", invoke("fn", Action::Async)),
            (Method::POST, "/2014-11-13/functions/fn/invoke-async", invoke("fn", Action::Async)),
            (Method::GET, "/2018-06-01/ping", Route::Ping),
            (Method::POST, "/2018-06-01/ping", Route::MethodNotAllowed { allow: "GET" }),
            (Method::GET, "/2018-06-01/ping/", Route::NotFound),
            (Method::GET, "/2018-06-01/runtime/invocation/next", Route::NotFound),
            (Method::POST, "/2018-06-01/runtime/init/error", Route::Unknown),
            (Method::GET, "/2015-03-31/functions/fn/invocations", Route::MethodNotAllowed { allow: "POST" }),
            (Method::PUT, "/2014-11-13/functions/fn/invoke-async/", Route::MethodNotAllowed { allow: "POST" }),
            (Method::POST, "/2015-03-31/functions/fn/invocations/", Route::Unknown),
            (Method::POST, "/2014-11-13/functions/fn/invoke-async//", Route::Unknown),
            (Method::POST, "/2015-03-31/functions//invocations", Route::Unknown),
            (Method::POST, "/2015-03-31/functions/fn/invocations/x/y/z", Route::Unknown),
            (Method::GET, "/", Route::Unknown),
            (Method::POST, "", Route::Unknown),
            (Method::OPTIONS, "/anything", Route::Preflight),
            (Method::OPTIONS, "*", Route::Preflight),
        ] {
            assert_eq!(of(&method, path), route, "{method} {path}");
        }
    }
}
