//! What browsers are told, as docker-lambda and Lambda tell it.

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN,
};
use hyper::{Response, StatusCode};

use super::body::Body;

const EXPOSED: HeaderValue =
    HeaderValue::from_static("x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,Date,x-amz-log-result,x-amz-function-error");
const MAX_AGE: HeaderValue = HeaderValue::from_static("172800");

/// Whether a browser asks.
pub(super) fn is_from_page(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| !origin.is_empty())
}

/// Lets the page have the answer.
pub(super) fn expose(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Grants what is asked for.
pub(super) fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    if !is_from_page(asked) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    for (wanted, granted) in
        [(ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS), (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS)]
    {
        if let Some(value) = asked.get(wanted) {
            headers.insert(granted, value.clone());
        }
    }
    response
}
