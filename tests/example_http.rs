//! The HTTP that the examples speak.

#[path = "../examples/common/http.rs"]
mod http;

use http::{Answer, Request, head_len};

#[test]
fn a_head_ends_at_its_blank_line() {
    assert_eq!(head_len(b"GET / HTTP/1.1\r\n\r\nrest"), Some(18));
    assert_eq!(head_len(b"GET / HTTP/1.1\r\n"), None);
    assert_eq!(head_len(b""), None);
}

#[test]
fn a_request_stays_open_as_its_version_says_unless_its_field_says_otherwise() {
    let keep_alive = |head: &str| Request::parse(head.as_bytes()).map(|request| request.keep_alive);
    assert_eq!(keep_alive("GET /a HTTP/1.1\r\n\r\n"), Some(true));
    assert_eq!(keep_alive("GET /a HTTP/1.0\r\n\r\n"), Some(false));
    assert_eq!(
        keep_alive("GET /a HTTP/1.1\r\nconnection: CLOSE\r\n\r\n"),
        Some(false)
    );
    assert_eq!(
        keep_alive("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"),
        Some(true)
    );
}

#[test]
fn a_request_s_path_ends_at_its_query() {
    let request = Request::parse(b"GET /a/b?c=d HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(request.path, "/a/b");
}

#[test]
fn what_is_not_a_get_request_is_not_read_as_one() {
    for head in [
        "",
        "\r\n\r\n",
        "GET",
        "GET /",
        "POST / HTTP/1.1\r\n\r\n",
        "GET * HTTP/1.1\r\n\r\n",
        "GET / SPDY\r\n\r\n",
    ] {
        assert_eq!(Request::parse(head.as_bytes()), None, "{head:?}");
    }
    assert_eq!(Request::parse(b"GET /\xff HTTP/1.1\r\n\r\n"), None);
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let with_length = Answer::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!(
        (
            with_length.status,
            with_length.content_length,
            with_length.keep_alive
        ),
        (200, Some(5), true)
    );
    let without = Answer::parse(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
    assert_eq!(
        (without.status, without.content_length, without.keep_alive),
        (404, None, false)
    );
}

#[test]
fn an_answer_with_a_senseless_length_or_status_is_refused() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 x\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "",
    ] {
        assert_eq!(Answer::parse(head.as_bytes()), None, "{head:?}");
    }
}
