// Queues a file for a model, and prints the answer: rustc producer.rs && ./producer HOST:PORT PASSWORD MODEL FILE [TYPE]
// Without a crate: Redis' protocol is a few lines. With the crate `redis` it is con.xadd(...) and con.xread_options(...).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

enum Value {
    Nothing,
    Text,
    Bytes(Vec<u8>),
    List(Vec<Value>),
}

impl Value {
    fn list(self) -> Vec<Value> {
        match self {
            Value::List(values) => values,
            _ => Vec::new(),
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Value::Bytes(bytes) => bytes,
            _ => Vec::new(),
        }
    }
}

struct Redis {
    reader: BufReader<TcpStream>,
}

impl Redis {
    /// Sends one command, and reads its reply.
    fn ask(&mut self, parts: &[&[u8]]) -> Result<Value> {
        let mut sent = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            sent.extend(format!("${}\r\n", part.len()).as_bytes());
            sent.extend(*part);
            sent.extend(b"\r\n");
        }
        self.reader.get_mut().write_all(&sent)?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "-" => Err(Error::new(ErrorKind::Other, rest.to_string())),
            "$" | "*" => {
                let length: i64 = rest.parse().map_err(|_| Error::new(ErrorKind::InvalidData, "length"))?;
                if length < 0 {
                    Ok(Value::Nothing)
                } else if kind == "$" {
                    let mut bytes = vec![0; length as usize + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(length as usize);
                    Ok(Value::Bytes(bytes))
                } else {
                    (0..length).map(|_| self.read()).collect::<Result<Vec<_>>>().map(Value::List)
                }
            }
            _ => Ok(Value::Text),
        }
    }
}

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let body = std::fs::read(&given[3])?;
    let kind = given.get(4).map(String::as_str).unwrap_or("");
    let lane = format!("marq:{{{}}}:normal:1.0", given[2]);
    let answers = format!("answers:{}:{:?}", std::process::id(), std::time::SystemTime::now());
    let mut redis = Redis { reader: BufReader::new(TcpStream::connect(&given[0])?) };
    redis.ask(&[b"AUTH", given[1].as_bytes()])?;
    redis.ask(&[
        b"XADD", lane.as_bytes(), b"*", b"type", kind.as_bytes(), b"reply", answers.as_bytes(), b"body", &body,
    ])?;
    let streams = redis.ask(&[b"XREAD", b"BLOCK", b"60000", b"STREAMS", answers.as_bytes(), b"0"])?;
    redis.ask(&[b"DEL", answers.as_bytes()])?;
    let mut path = streams;
    for place in [0, 1, 0, 1] {
        path = path.list().into_iter().nth(place).ok_or(Error::new(ErrorKind::TimedOut, "No answer."))?;
    }
    let flat: Vec<Vec<u8>> = path.list().into_iter().map(Value::bytes).collect();
    let reply: HashMap<&[u8], &[u8]> = flat.chunks(2).map(|pair| (&pair[0][..], &pair[1][..])).collect();
    std::io::stdout().write_all(reply[&b"body"[..]])?;
    std::process::exit(if reply[&b"status"[..]] == b"200" { 0 } else { 1 });
}
