//! Many flows at once, made from nothing: what a firewall looks like that has been up for a while.
