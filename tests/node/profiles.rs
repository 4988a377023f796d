//! Runs one test on several kinds of node.

/// Makes a module for each profile, with a test for each function.
///
/// ```ignore
/// on_profiles! { [emr_7_1: Emr71, emr_7_12: Emr712] [a_user_sees_this, and_that] }
/// ```
macro_rules! on_profiles {
    ([$($module:ident: $profile:ident),+] $tests:tt) => {
        $(mod $module { on_profile! { $profile $tests } })+
    };
}

/// The tests of one such module.
macro_rules! on_profile {
    ($profile:ident [$($name:ident),+ $(,)?]) => {
        $(
            #[test]
            #[ignore = "needs root and a node: scripts/test node"]
            fn $name() {
                super::$name(crate::helpers::node::Profile::$profile);
            }
        )+
    };
}
