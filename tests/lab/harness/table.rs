//! The kernel's table as `conntrack -L` prints it, line by line.
