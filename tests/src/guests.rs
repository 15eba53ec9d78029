//! Stub until the guests land.
pub fn path(_name: &str) -> &'static std::path::Path {
    std::path::Path::new("/")
}
