//! The names of all sections and options, taken from the structs in `file` themselves, so that
//! there is no second list to keep.

use serde::Deserialize;
use serde::de::{Deserializer, Visitor, value::Error};

use super::file;

/// A section, and how often it may stand in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// `[[name]]`, any number of times, instead of `[name]`.
    pub repeats: bool,
    /// Its options.
    pub options: &'static [&'static str],
}

impl Section {
    /// The section as its header is written.
    #[must_use]
    pub fn header(&self) -> String {
        if self.repeats {
            format!("[[{}]]", self.name)
        } else {
            format!("[{}]", self.name)
        }
    }
}

/// All sections, in the order in which the documentation has them.
#[must_use]
pub fn sections() -> [Section; 12] {
    let once = |name, options| Section {
        name,
        repeats: false,
        options,
    };
    [
        once("node", fields_of::<file::Node>()),
        once("control", fields_of::<file::Control>()),
        once("security", fields_of::<file::SecuritySection>()),
        Section {
            name: "link",
            repeats: true,
            options: fields_of::<file::Link>(),
        },
        once("replicate", fields_of::<file::Replicate>()),
        once("standby", fields_of::<file::Standby>()),
        once("kernel", fields_of::<file::Kernel>()),
        once("cache", fields_of::<file::Cache>()),
        once("commit", fields_of::<file::Commit>()),
        once("keepalived", fields_of::<file::Keepalived>()),
        once("gate", fields_of::<file::Gate>()),
        once("log", fields_of::<file::Log>()),
    ]
}

/// The names of a struct's fields, as serde knows them.
fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    let asked = T::deserialize(FieldsOnly(&mut fields));
    debug_assert!(asked.is_err(), "there is nothing to deserialize");
    fields
}

/// A deserializer that notes which fields it is asked for, and has none.
struct FieldsOnly<'f>(&'f mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldsOnly<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(serde::de::Error::custom("only the names were wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("not a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_the_file_is_named_once() {
        let names: Vec<&str> = sections().iter().map(|section| section.name).collect();
        let mut expected = fields_of::<file::File>().to_vec();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
        assert!(sections().iter().all(|section| !section.options.is_empty()));
    }
}
