//! HTTP/1.1 for tests: one request per connection, and files for a browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request; answers status and body.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, String), String> {
    let text = |error: std::io::Error| format!("{method} {path}: {error}");
    let mut stream = TcpStream::connect(address).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).map_err(text)?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).map_err(text)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("{method} {path}: no status in {line:?}"))?;
    let mut length = None;
    loop {
        line.clear();
        answer.read_line(&mut line).map_err(text)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let mut body = String::new();
    // Whoever gives no length ends the connection.
    answer.take(length.unwrap_or(u64::MAX)).read_to_string(&mut body).map_err(text)?;
    Ok((status, body))
}

/// What is served under one path.
pub(crate) enum Served {
    /// These bytes, of this type.
    Bytes(&'static str, Vec<u8>),
    /// The files of a folder.
    Folder(PathBuf),
}

/// Serves to the end of the process, and answers where.
pub(crate) fn serve(places: Vec<(&'static str, Served)>) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let places = std::sync::Arc::new(places);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let places = std::sync::Arc::clone(&places);
            std::thread::spawn(move || answer(stream, &places));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, places: &[(&'static str, Served)]) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1)?.split('?').next()?;
    let found = places.iter().find_map(|(prefix, served)| match served {
        Served::Bytes(kind, bytes) if path == *prefix => Some((*kind, bytes.clone())),
        Served::Folder(folder) if path.starts_with(prefix) && !path.contains("..") => {
            let kind = if path.ends_with(".js") { "text/javascript" } else { "text/plain" };
            let file = folder.join(path.strip_prefix(prefix)?);
            Some((kind, std::fs::read(file).ok()?))
        }
        _ => None,
    });
    let (status, (kind, body)) = match found {
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", ("text/plain", Vec::new())),
    };
    let mut stream = reader.into_inner();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}
