//! JSON values as manifests spell them: `null` is absence, numbers may be
//! quoted (protobuf JSON), text is borrowed where it has no escapes.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref, sync::Arc};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Text; `null` is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    /// The text, shared.
    pub(super) fn arc(&self) -> Arc<str> {
        Arc::from(&*self.0)
    }

    /// The text, unless it is empty.
    pub(super) fn filled(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&*self.0)
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
    fn visit_unit<E>(self) -> Result<Text<'de>, E> {
        Ok(Text::default())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor)
    }
}

/// A list; `null` is empty (an `EndpointSlice` of no endpoints has
/// `"endpoints": null`).
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(List(list))
    }
    fn visit_unit<E>(self) -> Result<List<T>, E> {
        Ok(List::default())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ListVisitor(PhantomData))
    }
}

/// A map with text keys, in the order of the input; `null` is empty.
#[derive(Debug)]
pub(super) struct Map<'a, V>(pub(super) Vec<(Text<'a>, V)>);

impl<V> Default for Map<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, V> Map<'a, V> {
    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let mut all = self.0.iter();
        all.find(|(k, _)| **k == *key).map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Text<'a>, V)> {
        self.0.iter()
    }
}

struct MapVisitor<V> {
    wanted: Option<&'static [&'static str]>,
    value: PhantomData<V>,
}

impl<'de, V: Deserialize<'de>> Visitor<'de> for MapVisitor<V> {
    type Value = Map<'de, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Map<'de, V>, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Text<'de>>()? {
            if self.wanted.is_some_and(|wanted| !wanted.contains(&&*key)) {
                entries.next_value::<IgnoredAny>()?;
            } else {
                map.push((key, entries.next_value()?));
            }
        }
        Ok(Map(map))
    }
    fn visit_unit<E>(self) -> Result<Map<'de, V>, E> {
        Ok(Map::default())
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Map<'a, V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(MapVisitor {
            wanted: None,
            value: PhantomData,
        })
    }
}

/// Reads a map of text, skipping every key that is not `wanted`: an object's
/// annotations often hold a second copy of the object.
pub(super) fn some_of<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
    wanted: &'static [&'static str],
) -> Result<Map<'a, Text<'a>>, D::Error> {
    from.deserialize_any(MapVisitor {
        wanted: Some(wanted),
        value: PhantomData,
    })
}

/// A whole number, plain or quoted; `null` is absence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Int(pub(super) Option<i64>);

impl Int {
    /// The value where it is over zero: protobuf JSON cannot tell 0 from unset.
    pub(super) fn positive(self) -> Option<u32> {
        self.0
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
    }

    /// The value of a `UInt32Value`, which tells 0 from unset.
    pub(super) fn set(self) -> Option<u32> {
        self.0.and_then(|n| u32::try_from(n).ok())
    }

    /// The value as a port from 1 to 65535.
    pub(super) fn port(self) -> Option<u16> {
        self.0
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n > 0)
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }
    fn visit_i64<E>(self, number: i64) -> Result<Int, E> {
        Ok(Int(Some(number)))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Int, E> {
        let number = i64::try_from(number);
        number
            .map(|n| Int(Some(n)))
            .map_err(|_| E::custom("the number is too large"))
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "only whole numbers in the exact range of f64 get there"
    )]
    fn visit_f64<E: Error>(self, number: f64) -> Result<Int, E> {
        if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
            return Ok(Int(Some(number as i64)));
        }
        Err(E::custom(format!("{number} is not a whole number")))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Int, E> {
        let number = text.parse().map(|n| Int(Some(n)));
        number.map_err(|_| E::custom(format!("{text:?} is not a whole number")))
    }
    fn visit_unit<E>(self) -> Result<Int, E> {
        Ok(Int(None))
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(IntVisitor)
    }
}

/// A number or a name (Kubernetes `IntOrString`).
#[derive(Debug, Default)]
pub(super) enum IntOrText<'a> {
    #[default]
    Unset,
    Int(i64),
    Text(Text<'a>),
}

struct IntOrTextVisitor;

impl<'de> Visitor<'de> for IntOrTextVisitor {
    type Value = IntOrText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a string")
    }
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(IntOrText::Int(number))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(IntOrText::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(IntOrText::Text(Text(Cow::Borrowed(text))))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(IntOrText::Text(Text(Cow::Owned(text.to_owned()))))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(IntOrText::Unset)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for IntOrText<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(IntOrTextVisitor)
    }
}

#[cfg(test)]
mod tests;
