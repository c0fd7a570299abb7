//! An object as an API server sent it.

/// Its text in one of the two forms that API servers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw<'a> {
    /// JSON.
    Json(&'a str),
    /// The protobuf message of its kind. Half as long and a fraction of the work,
    /// for the API server too, but a kind has to be spelled out to be read.
    Protobuf(&'a [u8]),
}

impl<'a> Raw<'a> {
    /// The JSON; empty where it came in the other form, which only who asks for it
    /// gets.
    pub fn json(self) -> &'a str {
        match self {
            Self::Json(text) => text,
            Self::Protobuf(_) => "",
        }
    }
}
