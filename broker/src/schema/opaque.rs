//! No schema: a media type, and the reason why.

use super::Malformed;

const MAX_MEDIA_TYPE_BYTES: usize = 255;
const MAX_REASON_BYTES: usize = 1024;

/// The canonical form: the media type in lower case.
pub(super) fn canonical(media_type: &str, reason: &str) -> Result<String, Malformed> {
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let well_formed = media_type.len() <= MAX_MEDIA_TYPE_BYTES
        && media_type.bytes().all(|b| (0x20..0x7f).contains(&b))
        && essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub));
    if !well_formed {
        return Err(Malformed::new(
            "media_type",
            "an OPAQUE schema needs the media type of the values, for instance `application/json`",
        ));
    }
    if reason.trim().is_empty() || reason.len() > MAX_REASON_BYTES {
        return Err(Malformed::new(
            "reason",
            "an OPAQUE schema needs a written reason why there is no schema, at most 1,024 bytes",
        ));
    }
    Ok(media_type.to_ascii_lowercase())
}
