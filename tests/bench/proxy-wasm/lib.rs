//! Nothing: each filter is an example of this package, compiled to a module of its own.
