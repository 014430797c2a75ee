//! Values in addresses.
//!
//! Decides: nothing; RFC 3986, section 2.3.

/// A value in an address: everything but letters, digits and `-._~` as percent signs.
pub fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
