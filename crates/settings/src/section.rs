//! Structs whose fields are settings, and walks over them.

use crate::kind::{Kind, Shape};
use crate::setting::Setting;
use crate::table::{Entries, NamedTable};

/// A struct of settings, declared by [`settings!`](crate::settings!).
pub trait Section {
    /// Shows every setting and every table to the visitor, in the order of their declaration.
    fn visit(&mut self, visitor: &mut dyn Visitor);
}

/// Something that walks over the settings of a section.
pub trait Visitor {
    /// A setting, and the field that holds its value.
    fn setting(&mut self, setting: &Setting, slot: &mut dyn Slot);
    /// A table of named sections.
    fn table(&mut self, table: &NamedTable, entries: &mut dyn Entries);
}

/// The field that holds a setting's value.
pub trait Slot {
    /// Reads the text into the field.
    ///
    /// # Errors
    /// See [`Kind::parse`].
    fn set(&mut self, text: &str) -> Result<(), String>;
}

/// A field together with the kind of its values.
pub struct Field<'a, K: Kind> {
    /// How its text is read.
    pub kind: K,
    /// The field.
    pub value: &'a mut K::Value,
}

impl<K: Kind> Field<'_, K> {
    /// What values look like.
    pub fn shape(&self) -> Shape {
        self.kind.shape()
    }
}

impl<K: Kind> Slot for Field<'_, K> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self.value = self.kind.parse(text)?;
        Ok(())
    }
}

/// Declares a struct whose fields are settings. The doc comment of a field is the help of its setting. `Clone`, `Debug` and
/// `Default` come by themselves; further traits may be derived.
///
/// - `setting FIELD: TYPE = { HEADING "KEY" KIND }`, and perhaps `; "VARIABLE"`: another variable that means the same.
/// - `part FIELD: TYPE = {}`: a section inside this one.
/// - `table FIELD: Table<TYPE> = { "KEY" CHECK }`: sections with names, as `[KEY.NAME]` in the file; `CHECK` is a function that
///   says what is wrong with a name. The key may have a dot. `; "EXAMPLE"` may follow: a section as the reference shows it.
/// - `plain FIELD: TYPE = { VALUE }`: a field that the program fills in, and no setting.
///
/// ```
/// use std::time::Duration;
/// use starling_settings::{seconds, settings};
///
/// settings! {
///     /// What can be set about kettles.
///     pub struct Kettle {
///         /// How long it boils.
///         setting boil: Duration = { Node "boil_seconds" seconds(90, 1..=600) }
///     }
/// }
/// assert_eq!(Kettle::default().boil, Duration::from_secs(90));
/// ```
#[macro_export]
macro_rules! settings {
    (@initial setting { $heading:ident $key:literal $kind:expr $(; $variable:literal)? }) => {
        $crate::Kind::initial(&$kind)
    };
    (@initial part {}) => { ::std::default::Default::default() };
    (@initial table { $key:literal $check:expr $(; $example:literal)? }) => { ::std::default::Default::default() };
    (@initial plain { $value:expr }) => { $value };

    (@visit setting $value:expr, $visitor:ident, $help:expr, { $heading:ident $key:literal $kind:expr $(; $variable:literal)? }) => {{
        let mut field = $crate::Field { kind: $kind, value: $value };
        #[allow(unused_mut, unused_assignments, reason = "only some settings have another variable")]
        let mut variable = ::std::option::Option::None;
        $( variable = ::std::option::Option::Some($variable); )?
        let setting = $crate::Setting {
            heading: $crate::Heading::$heading,
            key: $key,
            variable,
            help: $help,
            shape: field.shape(),
        };
        $visitor.setting(&setting, &mut field);
    }};
    (@visit part $value:expr, $visitor:ident, $help:expr, {}) => {
        $crate::Section::visit($value, $visitor)
    };
    (@visit table $value:expr, $visitor:ident, $help:expr, { $key:literal $check:expr $(; $example:literal)? }) => {{
        #[allow(unused_mut, unused_assignments, reason = "only some tables have an example of their own")]
        let mut example = ::std::option::Option::None;
        $( example = ::std::option::Option::Some($example); )?
        $visitor.table(&$crate::NamedTable { key: $key, help: $help, check: $check, example }, $value)
    }};
    (@visit plain $value:expr, $visitor:ident, $help:expr, { $initial:expr }) => {};

    (
        $(#[doc = $about:literal])+
        $(#[derive($($derive:ident),+)])?
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $help:literal])+
                $what:ident $field:ident: $type:ty = $details:tt
            )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug $(, $($derive),+)?)]
        $visibility struct $name {
            $( $(#[doc = $help])+ pub $field: $type, )*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $( $field: $crate::settings!(@initial $what $details), )* }
            }
        }

        impl $crate::Section for $name {
            fn visit(&mut self, visitor: &mut dyn $crate::Visitor) {
                $( $crate::settings!(@visit $what &mut self.$field, visitor, concat!($($help),+), $details); )*
            }
        }
    };
}
