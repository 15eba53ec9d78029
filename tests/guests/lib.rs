//! Nothing: the guests are the examples of this package, one file each.
//!
//! The tests load them by name. None is part of the product, and most do what no filter should.
