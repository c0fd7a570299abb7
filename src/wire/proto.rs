//! The little of the protobuf wire format that the hot encoders write
//! themselves: prost costs about 700 ns an endpoint and its maps are hashed, so
//! that equal values encode to different bytes.

/// Size of a varint.
pub fn varint_len(value: u64) -> usize {
    // 1 byte for each started group of 7 bits.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Size of a length-delimited field with `len` bytes of content.
pub fn bytes_len(field: u32, len: usize) -> usize {
    varint_len(u64::from(field) << 3) + varint_len(len as u64) + len
}

/// The seven bits that the next byte of a varint carries.
#[allow(
    clippy::cast_possible_truncation,
    reason = "only the low seven bits are taken"
)]
pub fn low_bits(value: u64) -> u8 {
    value as u8 & 0x7f
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// Appends key and length of a length-delimited field.
pub fn put_header(out: &mut Vec<u8>, field: u32, len: usize) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, len as u64);
}

/// Appends a length-delimited field: string, bytes or an encoded message.
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_header(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a varint field: uint32, uint64, enum or bool.
pub fn put_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, value);
}
