//! The macro that reads the list of commands in `command.rs`.

/// Defines `Operation`, `Command` and the decoder of `Command` from the list of commands.
///
/// A command under `whole` is a struct. A function of `decode/build.rs` builds it from the frame's fields; the list names these fields for
/// the tests. A command under `by_field` is built field by field, each by a function of `decode/build.rs`.
///
/// Each command says whether its reply comes `in_turn` or `may_overtake` the replies to earlier commands. It also says which `scope` a
/// token needs for it, if any: the whole scope or its beginning.
macro_rules! commands {
    (@may_overtake in_turn) => { false };
    (@may_overtake may_overtake) => { true };
    (@scope) => { None };
    (@scope $scope:literal) => { Some($scope) };
    (
        whole { $(
            $(#[$whole_doc:meta])*
            $Whole:ident($Payload:ty) = $whole_name:literal [$($whole_field:ident),*] from $build:ident,
            $whole_order:ident $(, scope $whole_scope:literal)?;
        )* }
        by_field { $(
            $(#[$doc:meta])*
            $Variant:ident = $name:literal { $( $(#[$field_doc:meta])* $field:ident: $Type:ty = $take:ident, )* },
            $order:ident $(, scope $scope:literal)?;
        )* }
    ) => {
        /// The kind of a command, which is its `op`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation {
            $( $(#[$whole_doc])* $Whole, )*
            $( $(#[$doc])* $Variant, )*
        }

        impl Operation {
            /// All operations; `operation as usize` is the index here.
            pub const ALL: &'static [Operation] = &[ $( Operation::$Whole, )* $( Operation::$Variant, )* ];

            /// Returns the command's `op`.
            pub fn name(self) -> &'static str {
                match self {
                    $( Operation::$Whole => $whole_name, )*
                    $( Operation::$Variant => $name, )*
                }
            }

            /// Returns the operation with this `op`.
            pub fn parse(name: &str) -> Option<Operation> {
                Some(match name {
                    $( $whole_name => Operation::$Whole, )*
                    $( $name => Operation::$Variant, )*
                    _ => return None,
                })
            }

            /// Returns the names of the command's fields.
            pub fn fields(self) -> &'static [&'static str] {
                match self {
                    $( Operation::$Whole => &[ $( stringify!($whole_field), )* ], )*
                    $( Operation::$Variant => &[ $( stringify!($field), )* ], )*
                }
            }

            /// Whether the reply may be sent before the replies to earlier commands of the connection.
            pub fn may_overtake(self) -> bool {
                match self {
                    $( Operation::$Whole => commands!(@may_overtake $whole_order), )*
                    $( Operation::$Variant => commands!(@may_overtake $order), )*
                }
            }

            /// Returns the scope that a token needs, or its beginning. The hub checks it.
            pub fn scope(self) -> Option<&'static str> {
                match self {
                    $( Operation::$Whole => commands!(@scope $($whole_scope)?), )*
                    $( Operation::$Variant => commands!(@scope $($scope)?), )*
                }
            }
        }

        /// A command. Its names are valid, its sizes are within the protocol's limits, and its `limit` is in range.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Command {
            $( $(#[$whole_doc])* $Whole($Payload), )*
            $( $(#[$doc])* $Variant { $( $(#[$field_doc])* $field: $Type, )* }, )*
        }

        impl Command {
            /// Returns the kind of this command.
            pub fn operation(&self) -> Operation {
                match self {
                    $( Command::$Whole(_) => Operation::$Whole, )*
                    $( Command::$Variant { .. } => Operation::$Variant, )*
                }
            }

            /// Builds a command from the frame's fields.
            pub(super) fn from_fields(operation: Operation, fields: &mut Fields<'_>) -> Result<Command, BadRequest> {
                Ok(match operation {
                    $( Operation::$Whole => Command::$Whole(build::$build(fields)?), )*
                    $( Operation::$Variant => Command::$Variant {
                        $( $field: build::$take(stringify!($field), std::mem::take(&mut fields.$field))?, )*
                    }, )*
                })
            }
        }
    };
}

pub(super) use commands;
