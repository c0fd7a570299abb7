//! Where in a JSON text a position is.

enum Frame {
    Object { key: String, wants_key: bool },
    Array(usize),
}

/// The path of the value that ends (or begins) at a position of a JSON text,
/// as `spec.ports[0].port`: serde names the position only.
pub(super) fn path_at(json: &[u8], line: usize, column: usize) -> String {
    let lines = json.split_inclusive(|b| *b == b'\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let mut frames: Vec<Frame> = Vec::new();
    let mut bytes = json.iter().take(before + column);
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' => frames.push(Frame::Object {
                key: String::new(),
                wants_key: true,
            }),
            b'[' => frames.push(Frame::Array(0)),
            // The last byte is what the error is about: it may close the value.
            b'}' | b']' if bytes.len() > 0 => drop(frames.pop()),
            b',' => match frames.last_mut() {
                Some(Frame::Object { wants_key, .. }) => *wants_key = true,
                Some(Frame::Array(index)) if bytes.len() > 0 => *index += 1,
                _ => {}
            },
            b'"' => {
                let text = skip_string(&mut bytes);
                if let Some(Frame::Object { key, wants_key }) = frames.last_mut()
                    && *wants_key
                {
                    *key = text;
                    *wants_key = false;
                }
            }
            _ => {}
        }
    }
    print_path(&frames)
}

fn skip_string<'b>(bytes: &mut impl Iterator<Item = &'b u8>) -> String {
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => text.extend(bytes.next()),
            b'"' => break,
            other => text.push(*other),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn print_path(frames: &[Frame]) -> String {
    let mut path = String::new();
    for frame in frames {
        match frame {
            Frame::Object { key, .. } if path.is_empty() => path.push_str(key),
            Frame::Object { key, .. } if key.is_empty() => {}
            Frame::Object { key, .. } => path = format!("{path}.{key}"),
            Frame::Array(index) => path = format!("{path}[{index}]"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_wrong_value_is_named() {
        #[derive(Debug, serde::Deserialize)]
        struct Port {
            #[allow(dead_code, reason = "only its type matters")]
            port: u16,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Spec {
            #[allow(dead_code, reason = "only its type matters")]
            ports: Vec<Port>,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Root {
            #[allow(dead_code, reason = "only its type matters")]
            spec: Spec,
        }
        let cases = [
            (
                r#"{"a":[1,{"b":2}],"spec":{"ports":[{"port":1},{"port":"x"}]}}"#,
                "spec.ports[1].port",
            ),
            (r#"{"spec":{"ports":[{"port":{}}]}}"#, "spec.ports[0].port"),
            (r#"{"spec":{"ports":"x"}}"#, "spec.ports"),
            ("{\n \"spec\": {\n  \"ports\": true\n }\n}", "spec.ports"),
            (r#"{"spec":7}"#, "spec"),
        ];
        for (json, path) in cases {
            let error = serde_json::from_str::<Root>(json).expect_err("wrong type");
            assert_eq!(
                path_at(json.as_bytes(), error.line(), error.column()),
                path,
                "{json} {error}"
            );
        }
    }
}
