pub mod reply;
pub mod timer;
