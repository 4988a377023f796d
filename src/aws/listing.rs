//! Names in listings. XML cannot contain control characters, so every listing asks S3 to encode names as in a URL.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::types::{EncodingType, Object};
use percent_encoding::percent_decode_str;

/// A listing of a bucket, with encoded names.
pub(crate) fn request(client: &aws_sdk_s3::Client, bucket: &str, prefix: &str) -> ListObjectsV2FluentBuilder {
    client.list_objects_v2().bucket(bucket).prefix(prefix).encoding_type(EncodingType::Url)
}

/// A page of a listing, with decoded names.
pub(crate) trait Names {
    /// Each object with its key.
    fn objects(&self) -> impl Iterator<Item = (String, &Object)>;
    /// The common prefixes: directories, if the delimiter is a slash.
    fn directories(&self) -> impl Iterator<Item = String>;
}

impl Names for ListObjectsV2Output {
    fn objects(&self) -> impl Iterator<Item = (String, &Object)> {
        self.contents().iter().filter_map(|object| Some((decoded(self, object.key()?)?, object)))
    }

    fn directories(&self) -> impl Iterator<Item = String> {
        self.common_prefixes().iter().filter_map(|directory| decoded(self, directory.prefix()?))
    }
}

/// A name as it is in the bucket. A store that does not know the encoding does not say that it has encoded.
fn decoded(page: &ListObjectsV2Output, name: &str) -> Option<String> {
    if page.encoding_type() != Some(&EncodingType::Url) {
        return Some(name.into());
    }
    // As in the query of a form: a plus sign means a space.
    percent_decode_str(&name.replace('+', " ")).decode_utf8().ok().map(Into::into)
}

/// Whether a name has a character that no program should print or put into a URL as it is.
pub(crate) fn is_odd(name: &str) -> bool {
    name.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::{Names, is_odd};
    use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
    use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};

    #[test]
    fn names_are_decoded_where_the_store_has_encoded_them() {
        let page = |encoding| {
            ListObjectsV2Output::builder()
                .set_encoding_type(encoding)
                .contents(Object::builder().key("events/a%01b%2Bc+d%25%C3%A9").build())
                .common_prefixes(CommonPrefix::builder().prefix("events/my%20logs/").build())
                .build()
        };
        let names = |page: ListObjectsV2Output| {
            let objects: Vec<String> = page.objects().map(|(key, _)| key).collect();
            (objects, page.directories().collect::<Vec<_>>())
        };
        let (objects, directories) = names(page(Some(EncodingType::Url)));
        assert_eq!(objects, ["events/a\u{1}b+c d%é"]);
        assert_eq!(directories, ["events/my logs/"]);
        assert!(is_odd(&objects[0]) && !is_odd("events/my logs/"));
        assert_eq!(names(page(None)).0, ["events/a%01b%2Bc+d%25%C3%A9"]);
    }
}
