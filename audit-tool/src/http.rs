//! Just enough HTTP/1.1 for a witness: bounded requests, answers with a length, one thread per connection.

use std::io::{self, Read, Write};

use sallyport_transparency::MAX_WITNESS_REQUEST_BYTES;

/// Longest head of a request.
const MAX_HEAD: usize = 8 * 1024;

/// What is read, in bytes, and thrown away after a refused request.
const MAX_DRAINED: usize = 1024 * 1024;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }
}

/// Serves requests on one connection until the other side ends, or says something that is not understood.
pub(crate) fn serve<S: Read + Write>(
    stream: &mut S,
    mut respond: impl FnMut(Request) -> Answer,
) -> io::Result<()> {
    let mut received = Vec::new();
    loop {
        match next(stream, &mut received)? {
            Next::End => return Ok(()),
            Next::Bad(status) => {
                let answer = Answer::text(status, "the request is not one that a witness takes\n");
                write(stream, &answer, false)?;
                drain(stream);
                return Ok(());
            }
            Next::Request(request) => {
                let answer = respond(request);
                write(stream, &answer, true)?;
            }
        }
    }
}

/// Takes in what the other side still sends, bounded. Closing a socket with unread bytes resets it, and the reset can overtake the answer
/// that says why (RFC 9112 section 9.6).
fn drain<S: Read>(stream: &mut S) {
    let mut chunk = [0; 4096];
    for _ in 0..MAX_DRAINED / chunk.len() {
        // A timeout or a broken connection ends it as well: the answer has been sent.
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

enum Next {
    Request(Request),
    /// Answer with this status and close.
    Bad(u16),
    End,
}

fn next<S: Read>(stream: &mut S, received: &mut Vec<u8>) -> io::Result<Next> {
    let (head, method, path, length) = loop {
        match parse(received) {
            Head::Whole {
                head,
                method,
                path,
                length,
            } => break (head, method, path, length),
            Head::Bad(status) => return Ok(Next::Bad(status)),
            Head::Partial if received.len() >= MAX_HEAD => return Ok(Next::Bad(431)),
            Head::Partial => {
                if more(stream, received)? == 0 {
                    return Ok(Next::End);
                }
            }
        }
    };
    while received.len() < head + length {
        if more(stream, received)? == 0 {
            return Ok(Next::End);
        }
    }
    let rest = received.split_off(head + length);
    let body = received.split_off(head);
    *received = rest;
    Ok(Next::Request(Request { method, path, body }))
}

fn more<S: Read>(stream: &mut S, received: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 4096];
    let count = stream.read(&mut chunk)?;
    received.extend_from_slice(chunk.get(..count).unwrap_or_default());
    Ok(count)
}

enum Head {
    Whole {
        head: usize,
        method: String,
        path: String,
        length: usize,
    },
    Partial,
    Bad(u16),
}

fn parse(received: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(received) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Head::Partial,
        Err(_) => return Head::Bad(400),
    };
    let mut lengths = Vec::new();
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            lengths.push(std::str::from_utf8(header.value).ok().and_then(|value| {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| value.parse::<usize>().ok()).flatten()
            }));
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            // A log knows the length of what it sends.
            return Head::Bad(411);
        }
    }
    let length = match lengths.as_slice() {
        [] => 0,
        [Some(length)] if *length <= MAX_WITNESS_REQUEST_BYTES => *length,
        [Some(_)] => return Head::Bad(413),
        _ => return Head::Bad(400),
    };
    Head::Whole {
        head,
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        length,
    }
}

fn write<S: Write>(stream: &mut S, answer: &Answer, open: bool) -> io::Result<()> {
    let connection = if open { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        answer.status,
        reason(answer.status),
        answer.content_type,
        answer.body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(answer.body.as_bytes())?;
    stream.flush()
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        422 => "Unprocessable Entity",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its input in small pieces.
    struct Pieces {
        input: Vec<u8>,
        at: usize,
        output: Vec<u8>,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let end = (self.at + 7).min(self.input.len());
            let part = &self.input[self.at..end];
            buffer[..part.len()].copy_from_slice(part);
            self.at = end;
            Ok(part.len())
        }
    }

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.output.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(input: &str) -> (Vec<Request>, String) {
        let mut stream = Pieces {
            input: input.as_bytes().to_vec(),
            at: 0,
            output: Vec::new(),
        };
        let mut seen = Vec::new();
        serve(&mut stream, |request| {
            seen.push(request);
            Answer::text(200, "yes\n")
        })
        .unwrap();
        (seen, String::from_utf8(stream.output).unwrap())
    }

    #[test]
    fn requests_on_one_connection_are_answered_in_order() {
        let (seen, said) = talk(
            "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 5\r\n\r\nhelloGET /x HTTP/1.1\r\nHost: w\r\n\r\n",
        );
        assert_eq!(seen.len(), 2);
        assert_eq!(
            (seen[0].method.as_str(), seen[0].body.as_slice()),
            ("POST", &b"hello"[..])
        );
        assert_eq!((seen[1].path.as_str(), seen[1].body.len()), ("/x", 0));
        assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_ends_the_connection() {
        for (input, status) in [
            ("nonsense\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ] {
            let (seen, said) = talk(input);
            assert!(seen.is_empty());
            assert!(
                said.starts_with(&format!("HTTP/1.1 {status} ")),
                "{input}: {said}"
            );
            assert!(said.contains("Connection: close"));
        }
        let (_, said) = talk(&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9_000)));
        assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    }
}
